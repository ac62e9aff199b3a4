"""Converts and inspects weight files, with only one tensor at a time in memory."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ivjax.convert.comparison import FileComparison, ImportChoices, compare
from ivjax.convert.engine.family import Family
from ivjax.convert.engine.match_report import MatchReport
from ivjax.convert.engine.own_format import is_own, metadata
from ivjax.convert.formats.finite import non_finite
from ivjax.convert.formats.torch_files import write_torch
from ivjax.convert.formats.writing import SHARD_BYTES, write_safetensors
from ivjax.convert.lora_files import factor_leaves, write_lora
from ivjax.convert.origins import open_weights
from ivjax.convert.registry import FAMILIES, family_named
from ivjax.errors import UserError
from ivjax.progress import Progress, Say

_TORCH_SUFFIXES = (".pt", ".pth")


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        files: the files that were written; the last one is what the weights are opened by.
        bytes: bytes of all tensors.
        report: which tensors went into them.
    """

    files: tuple[Path, ...]
    bytes: int
    report: MatchReport

    def text(self) -> str:
        """Returns the report and the files in lines, for people."""
        size = f"{self.bytes / 1e6:,.1f} MB"
        return "\n".join([self.report.text(), *(f"wrote     {file}" for file in self.files), size])

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as plain values, for programs."""
        return self.report.as_dict() | {"files": [str(file) for file in self.files], "bytes": self.bytes}


def inspect_file(
    path: Path, choices: ImportChoices = ImportChoices(), values: bool = True, say: Say = print
) -> MatchReport:
    """Compares a file with its family's nearest preset, or with what is chosen.

    With `values`, also reads each tensor that is needed, one at a time, and reports those that hold NaN or
    infinities.
    """
    compared = compare(open_weights(path, finite=False), str(path), choices)
    if not values:
        return compared.report
    tensors, odd = compared.file.tensors, {}
    names = [name for leaf in compared.match.leaves for name in leaf.names]
    with Progress(len(names), "tensors", say) as progress:
        for name in names:
            if found := non_finite(tensors[name]):
                odd[name] = found
            progress.advance()
    return replace(compared.report, non_finite=odd, allows_non_finite=choices.allow_non_finite)


def import_file(
    path: Path,
    out: Path,
    choices: ImportChoices = ImportChoices(),
    shard_bytes: int = SHARD_BYTES,
    say: Say = print,
    lora: Path | None = None,
) -> Converted:
    """Writes the weights of any file in this project's format: .safetensors with tree paths as names.

    `lora` is a file of factors as peft writes it, which go beside the parameters of the language model.
    """
    compared = compare(open_weights(path, not choices.allow_non_finite), str(path), choices)
    # Before anything is written: a file that does not fit leaves no half of a conversion.
    compared.report.check(str(path))
    leaves, sizes = compared.leaves(), compared.sizes
    if lora is not None:
        sizes, factors = factor_leaves(lora, compared.file.family, sizes)
        leaves = [*leaves, *factors]
    about = metadata(compared.file.family.name, sizes, compared.preset)
    with Progress(len(leaves), "parameters", say) as progress:
        files = write_safetensors(out, leaves, about, shard_bytes, progress.advance)
    return Converted(tuple(files), sum(leaf.nbytes for leaf in leaves), compared.report)


def export_file(
    weights: Path, out: Path, say: Say = print, names: str | None = None, lora: bool = False
) -> Converted:
    """Writes weights of this project, or of a run, under their original names, as .safetensors or torch file.

    Parameters that the originals have no place for are left out, and listed as unused. `names` is the family
    whose names are written, if not those that the weights came with; its models must be the same. A LoRA is
    merged into the kernels; with `lora` it is written alone, as peft does.
    """
    tensors = open_weights(weights)
    # An original file is under original names already.
    if not is_own(tensors):
        raise UserError(f"{weights} is not in this project's format; run `ivjax convert import` on it first")
    if out.suffix not in (".safetensors", *_TORCH_SUFFIXES):
        raise UserError(f"{out} must end in .safetensors, .pt or .pth; choose one of these")
    compared = compare(tensors, str(weights))
    compared.report.check(str(weights))
    family = _writing_family(compared, names)
    left_out = {name: "the originals have no place for it" for name in tensors if name in family.added}
    report = replace(compared.report, unused={**compared.report.unused, **left_out})
    if lora:
        files = write_lora(out, tensors, family, compared.sizes)
        return Converted(tuple(files), files[-1].stat().st_size, report)
    leaves = family.original_tensors(tensors, compared.sizes)
    with Progress(len(leaves), "tensors", say) as progress:
        if out.suffix in _TORCH_SUFFIXES:
            files = write_torch(out, leaves, family.container, progress.advance)
        else:
            # transformers refuses files without this entry.
            files = write_safetensors(out, leaves, {"format": "pt"}, advance=progress.advance)
    return Converted(tuple(files), sum(leaf.nbytes for leaf in leaves), report)


def _writing_family(compared: FileComparison, names: str | None) -> Family:
    """Returns the family whose names an export writes."""
    family = compared.file.family
    if names is None:
        return family
    chosen = family_named(names)
    if not chosen.fits(compared.sizes):
        alike = [other.name for other in FAMILIES.values() if other.fits(compared.sizes)]
        raise UserError(f"{names} names no models as {family.name} has; choose one of {', '.join(alike)}")
    return chosen
