"""Opens the trackers that an experiment names."""

import importlib.util
from pathlib import Path

from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.progress import Say
from ivjax.train.trackers.background import Background
from ivjax.train.trackers.board import Board
from ivjax.train.trackers.mlflow_tracker import MlflowTracker
from ivjax.train.trackers.tracker import Tracker, tracked_run
from ivjax.train.trackers.wandb_tracker import WandbTracker

# Each by the name of its package, which is imported only for a run that asks for it.
_ELSEWHERE: dict[str, type[WandbTracker] | type[MlflowTracker]] = {
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
}


def check_trackers(experiment: Experiment) -> None:
    """Raises UserError if a tracker is named whose package is not installed."""
    for name in _ELSEWHERE.keys() & set(experiment.log.to):
        found = importlib.util.find_spec(name)
        # Without an origin it is a folder: the packages leave ./wandb and ./mlflow behind.
        if found is None or found.origin is None:
            raise UserError(f"log.to names {name}, which is not installed: pip install 'ivjax[{name}]'")


def open_tracker(
    name: str, experiment: Experiment, folder: Path, step: int, logged: int, say: Say
) -> Tracker:
    """Returns a tracker; raises OSError where the run folder takes no files.

    `step` is the one that the run goes on after, `logged` the last one that earlier starts have logged.
    """
    if name not in _ELSEWHERE:
        return Board(folder / name, step)
    run = tracked_run(experiment, folder)

    def opened() -> Tracker:
        tracker = _ELSEWHERE[name](run)
        say(f"{name}: {tracker.place}")
        return tracker

    return Background(name, opened, logged, say)
