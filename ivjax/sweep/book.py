"""The folder of a sweep: what it was started with, where its runs lie, and who is at work in it."""

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.files import load_experiment, with_overrides
from ivjax.sweep.histories import History, read_history
from ivjax.sweep.trials import Overrides, Trial, trials_of
from ivjax.train.metrics import open_workdir

_FILE = "sweep.json"
_PATIENCE = 10.0  # seconds that the workers of a killed sweep have to end


@dataclass(frozen=True)
class Book:
    """A config, the overrides of each of its runs, and the folder where all of them go."""

    config: str
    runs: tuple[Overrides, ...]
    folder: Path

    def trials(self) -> list[Trial]:
        """The runs, named."""
        return trials_of(self.runs)

    def experiments(self) -> list[Experiment]:
        """What each run trains."""
        original = load_experiment(self.config)
        return [with_overrides(original, overrides) for overrides in self.runs]

    def run_folder(self, trial: Trial) -> Path:
        """Where a run goes."""
        return self.folder / "runs" / trial.name

    def histories(self) -> list[History]:
        """How far each run has come."""
        pairs = zip(self.trials(), self.experiments(), strict=True)
        return [read_history(self.run_folder(t), t.name, t.swept, experiment) for t, experiment in pairs]

    def check(self) -> None:
        """Raises if the folder is that of another sweep."""
        if not (self.folder / _FILE).is_file():
            return
        there = read_book(self.folder)
        faults = [f"its config is {there.config}, not {self.config}"] if there.config != self.config else []
        faults += [
            f"it has {_shown(run)}, which is not asked for" for run in there.runs if run not in self.runs
        ]
        faults += [f"it lacks {_shown(run)}" for run in self.runs if run not in there.runs]
        if faults:
            more = f"; and {len(faults) - 4} more" if len(faults) > 4 else ""
            raise UserError(
                f"{self.folder} holds another sweep: {'; '.join(faults[:4])}{more}; "
                "repeat its arguments, or choose another --workdir"
            )

    def write(self) -> None:
        """Keeps the sweep in its folder."""
        open_workdir(self.folder)
        store(self.folder / _FILE, json.dumps({"config": self.config, "runs": self.runs}, indent=1) + "\n")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, no other sweep works in the folder."""
        with (self.folder / "sweep.lock").open("a") as file:
            deadline = time.monotonic() + _PATIENCE
            while not _taken(file.fileno()):
                if time.monotonic() > deadline:
                    raise UserError(f"another sweep is at work in {self.folder}; wait for it, or stop it")
                time.sleep(0.1)
            yield


def read_book(folder: Path) -> Book:
    """The sweep that a folder was made by."""
    try:
        found = json.loads((folder / _FILE).read_text())
    except (OSError, json.JSONDecodeError):
        raise UserError(f"{folder} holds no {_FILE}; is it the folder of a sweep?") from None
    return Book(found["config"], tuple(tuple(run) for run in found["runs"]), folder)


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _shown(overrides: Sequence[str]) -> str:
    return f"a run {' '.join(overrides)}" if overrides else "a run without overrides"
