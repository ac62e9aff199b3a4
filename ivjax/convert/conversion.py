"""From file to file, and what a file is: nothing but one tensor at a time is in memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ivjax.convert.engine.own_format import is_own, metadata
from ivjax.convert.engine.report import Report
from ivjax.convert.formats.torch_files import write_torch
from ivjax.convert.formats.writing import SHARD_BYTES, write_safetensors
from ivjax.convert.origins import open_weights
from ivjax.convert.planning import Choices, plan
from ivjax.errors import UserError
from ivjax.progress import Progress

_TORCH_SUFFIXES = (".pt", ".pth")


@dataclass(frozen=True)
class Converted:
    """The files that were written, and what went into them."""

    files: tuple[Path, ...]
    bytes: int
    report: Report

    def text(self) -> str:
        """The report and the files in lines, for people."""
        size = f"{self.bytes / 1e6:,.1f} MB"
        return "\n".join([self.report.text(), *(f"wrote     {file}" for file in self.files), size])

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for programs."""
        return self.report.as_dict() | {"files": [str(file) for file in self.files], "bytes": self.bytes}


def inspect_file(path: Path, choices: Choices = Choices()) -> Report:
    """Compares a file with its family's nearest preset, or with what is chosen; reads next to nothing."""
    return plan(open_weights(path), str(path), choices).report


def import_file(
    path: Path,
    out: Path,
    choices: Choices = Choices(),
    shard_bytes: int = SHARD_BYTES,
    say: Callable[[str], None] = print,
) -> Converted:
    """Writes the weights of any file in this project's format: FILE.safetensors, tree paths as names."""
    planned = plan(open_weights(path), str(path), choices)
    planned.report.check(str(path))
    lazies = planned.lazies()
    said = metadata(planned.opened.family.name, planned.sizes, planned.preset)
    with Progress(len(lazies), "parameters", say) as progress:
        files = write_safetensors(out, lazies, said, shard_bytes, progress.advance)
    return Converted(tuple(files), sum(lazy.nbytes for lazy in lazies), planned.report)


def export_file(weights: Path, out: Path, say: Callable[[str], None] = print) -> Converted:
    """Writes weights of this project, or of a run, under their original names: .safetensors, or torch's.

    What the originals have no place for is left out, and listed as unused.
    """
    tensors = open_weights(weights)
    if not is_own(tensors):
        raise UserError(f"{weights} is not in this project's format; import it first")
    if out.suffix not in (".safetensors", *_TORCH_SUFFIXES):
        raise UserError(f"{out} must end in .safetensors, .pt or .pth")
    planned = plan(tensors, str(weights))
    planned.report.check(str(weights))
    family = planned.opened.family
    left_out = {name: "the originals have no place for it" for name in tensors if name in family.added}
    report = replace(planned.report, unused={**planned.report.unused, **left_out})
    lazies = family.original(tensors)
    with Progress(len(lazies), "tensors", say) as progress:
        if out.suffix in _TORCH_SUFFIXES:
            files = write_torch(out, lazies, family.container, progress.advance)
        else:
            files = write_safetensors(out, lazies, {"format": "pt"}, advance=progress.advance)
    return Converted(tuple(files), sum(lazy.nbytes for lazy in lazies), report)
