"""The folder of a run on disk: which checkpoints it holds, and where those of a run in phases lie."""

from pathlib import Path

CHECKPOINTS, PHASES, BEST = "checkpoints", "phases", "best"


def phase_folder(run: Path, number: int, name: str) -> Path:
    """Returns the folder of phase `number` (from 1) of a run in phases."""
    return run / PHASES / f"{number}_{name}"


def checkpoint_steps(run: Path) -> list[int]:
    """Returns the steps after which a run has a whole checkpoint, in order."""
    folder = run / CHECKPOINTS
    # A checkpoint that is being written has a longer name until it is whole.
    return sorted(int(entry.name) for entry in folder.glob("*") if entry.name.isdecimal())


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
