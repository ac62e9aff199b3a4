"""What a run asks of a tracker, and what a tracker is told of a run."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import leaves, show
from ivjax.experiment.run_folder import PHASES

_KEY = "tracked_as.txt"


class Tracker(Protocol):
    """Shows the numbers of a run."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the values of one step."""
        ...

    def close(self, finished: bool) -> None:
        """Takes no more; `finished` says whether the run has reached its last step."""
        ...


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers on other machines know it.

    Attributes:
        key: the same in all starts of the run, and of no other run.
        name: what people call it.
        folder: the run folder.
        settings: the values of its experiment, by dotted path.
    """

    key: str
    name: str
    folder: Path
    settings: Mapping[str, str | float | None]


def tracked_run(experiment: Experiment, folder: Path) -> TrackedRun:
    """Returns how a run is known to trackers; its folder holds the key from the first start on."""
    kept = folder / _KEY
    if not kept.is_file():
        kept.write_text(uuid.uuid4().hex[:16])
    # Phases of different runs are called alike.
    of_phase = folder.parent.name == PHASES
    name = f"{folder.parent.parent.name}/{folder.name}" if of_phase else folder.name
    settings = {path: _plain(value) for path, value in leaves(experiment).items()}
    return TrackedRun(kept.read_text().strip(), name, folder, settings)


def _plain(value: object) -> str | float | None:
    # Numbers stay numbers, so that runs can be drawn against them.
    return value if value is None or isinstance(value, str | int | float) else show(value)
