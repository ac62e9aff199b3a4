"""Writes a model as a folder with a card, whole or not at all."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivjax.convert.loading import load
from ivjax.convert.model_folder import FolderOptions, write_model_folder
from ivjax.convert.registry import FAMILIES, family_in_words
from ivjax.drafts import draft_of, store
from ivjax.errors import UserError
from ivjax.experiment.buckets import local
from ivjax.experiment.storing import is_run, stored_experiment
from ivjax.progress import Say
from ivjax.report.facts.eval_results import EvalResult, read_result
from ivjax.report.model_card.card_text import card_text
from ivjax.report.model_card.front_matter import CardOptions, check_card_options, front_matter

_CARD = "README.md"


@dataclass(frozen=True)
class WrittenFolder:
    """A folder that was written, and the files in it."""

    folder: Path
    files: tuple[Path, ...]

    def text(self) -> str:
        """Returns a line for each file, for people."""
        lines = [f"{file.relative_to(self.folder)}  {file.stat().st_size:,} bytes" for file in self.files]
        return "\n".join([f"{self.folder}:", *(f"  {line}" for line in lines)])

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as plain values, for programs."""
        return {"folder": str(self.folder), "files": [str(file) for file in self.files]}


def write_folder(
    weights: str,
    out: Path,
    card: CardOptions = CardOptions(),
    options: FolderOptions = FolderOptions(),
    say: Say = print,
) -> WrittenFolder:
    """Writes the model of a run folder or of a weight file into a new folder, with a card in README.md."""
    check_card_options(card)
    results = [_result_of(weights, Path(file)) for file in card.evals]
    if out.exists():
        raise UserError(f"{out} exists already; remove it or choose another name")
    draft = draft_of(out.absolute())
    shutil.rmtree(draft, ignore_errors=True)
    try:
        write_model_folder(weights, draft, options, say)
        _write_card(weights, draft, out.absolute().name, card, results)
        os.replace(draft, out)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{out} cannot be written: {reason}; choose another folder") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return WrittenFolder(out, tuple(sorted(file for file in out.rglob("*") if file.is_file())))


def _result_of(weights: str, file: Path) -> EvalResult:
    result = read_result(file)
    if not result.is_of(local(weights).expanduser()):
        raise UserError(f"{file} is a result of {result.weights}, not of {weights}; leave it out")
    return result


def _write_card(weights: str, folder: Path, name: str, card: CardOptions, results: list[EvalResult]) -> None:
    # Read as whoever fetches it will: a folder that cannot be opened gets no name.
    loaded = load(folder, on_host=True)
    place = local(weights).expanduser()
    experiment = stored_experiment(place) if is_run(place) else None
    family = family_in_words(loaded.model.size, FAMILIES.get(loaded.family))
    head = front_matter(name, loaded, family.partition(",")[0], card, results)
    text = card_text(name, loaded, family, weights, experiment, card, results)
    store(folder / _CARD, f"{head}\n{text}")
