"""The folder of a run on disk: its checkpoints, where those of a run in phases lie, and its metrics."""

import json
from pathlib import Path
from typing import Any

from ivjax.errors import UserError
from ivjax.experiment.buckets import address_of, is_committed, storage

CHECKPOINTS, PHASES, BEST, METRICS = "checkpoints", "phases", "best", "metrics.jsonl"
WEIGHTS = "model.safetensors"  # what a folder that was made of a run has in place of checkpoints


def logged_line(line: bytes) -> dict[str, Any] | None:
    """Returns a line of the metrics file; None for one that a kill, a full disk or damage has spoiled."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int | float) else None


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Returns the logged lines of a run, in order; each phase of a run in phases is a run of its own."""
    try:
        lines = (run / METRICS).read_bytes().splitlines()
    except OSError:
        raise UserError(f"{run} holds no {METRICS}; is it the folder of a run?") from None
    return [found for line in lines if (found := logged_line(line)) is not None]


def phase_folder(run: Path, number: int, name: str) -> Path:
    """Returns the folder of phase `number` (from 1) of a run in phases."""
    return run / PHASES / f"{number}_{name}"


def checkpoint_steps(run: Path) -> list[int]:
    """Returns the steps after which a run has a whole checkpoint, in order."""
    # Not always of `storage`, whose library takes a while to import.
    place: Any = run if address_of(run) is None else storage(run)
    # One that is being written on a disk has a longer name until it is whole.
    numbered = (entry for entry in (place / CHECKPOINTS).glob("*") if entry.name.isdecimal())
    return sorted(int(entry.name) for entry in numbered if is_committed(entry))


def folder_with_weights(run: Path) -> Path:
    """Returns the folder whose checkpoints stand for a run: of a run in phases, its last phase with one.

    RUN/best of a run in phases is the best checkpoint of the last phase that has one. Any other path is
    returned as it is.
    """
    if run.name == BEST and (run.parent / PHASES).is_dir():
        candidates = [phase / BEST for phase in _phases(run.parent)]
    else:
        candidates = _phases(run)
    return next((folder for folder in reversed(candidates) if checkpoint_steps(folder)), run)


def _phases(run: Path) -> list[Path]:
    numbered = (folder for folder in (run / PHASES).glob("*_*") if folder.name.split("_")[0].isdecimal())
    # By number, because as a text 10 comes before 2.
    return sorted(numbered, key=lambda folder: int(folder.name.split("_")[0]))
