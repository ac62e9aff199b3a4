"""The folder of a sweep: its config and runs on disk, where each run lies, and a lock."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivjax.drafts import locked, store
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.files import Overrides, load_experiment, with_each
from ivjax.progress import Say
from ivjax.sweep.histories import History, read_history
from ivjax.sweep.trials import Trial, trials_of
from ivjax.train.metrics import open_workdir

_FILE = "sweep.json"
_PATIENCE = 10.0  # seconds that the workers of a killed sweep have to end


@dataclass(frozen=True)
class SweepFolder:
    """A sweep as its folder knows it.

    Attributes:
        config: The config that all runs share, by name or path.
        runs: The overrides of each run.
        folder: Where all runs go.
    """

    config: str
    runs: tuple[Overrides, ...]
    folder: Path

    def trials(self) -> list[Trial]:
        """The runs, named."""
        return trials_of(self.runs)

    def experiments(self, say: Say | None = None) -> list[Experiment]:
        """The experiment of each run. `say` is told what a user should know of the runs, each line once."""
        experiments = with_each(load_experiment(self.config), self.runs, say)
        if any(experiment.phases for experiment in experiments):
            raise UserError("a sweep compares single runs, and its config has phases; add phases=()")
        return experiments

    def run_folder(self, trial: Trial) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / trial.name

    def histories(self) -> list[History]:
        """The log of each run so far."""
        pairs = zip(self.trials(), self.experiments(), strict=True)
        return [read_history(self.run_folder(t), t.name, t.swept, experiment) for t, experiment in pairs]

    def check(self) -> None:
        """Raises if the folder is that of another sweep."""
        if not (self.folder / _FILE).is_file():
            return
        there = read_sweep_folder(self.folder)
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
        try:
            with locked(self.folder / "sweep.lock", _PATIENCE):
                yield
        except TimeoutError:
            raise UserError(f"another sweep is at work in {self.folder}; wait for it, or stop it") from None


def read_sweep_folder(folder: Path) -> SweepFolder:
    """The sweep that a folder was made by."""
    try:
        found = json.loads((folder / _FILE).read_text())
    except (OSError, json.JSONDecodeError):
        raise UserError(f"{folder} holds no {_FILE}; is it the folder of a sweep?") from None
    return SweepFolder(found["config"], tuple(tuple(run) for run in found["runs"]), folder)


def _shown(overrides: Sequence[str]) -> str:
    return f"a run {' '.join(overrides)}" if overrides else "a run without overrides"
