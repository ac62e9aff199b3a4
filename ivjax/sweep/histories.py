"""The log of a run folder: how far the run came, and its metrics by step."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ivjax.drafts import store
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.run_folder import METRICS, read_metrics
from ivjax.train.ledger import ledger_file, read_times

_RESULT, _FAILURE = "result.json", "failed.json"


class Points(NamedTuple):
    """Values of a metric, and the steps after which they were taken."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class History:
    """The log of a run.

    Attributes:
        name: The name of the run.
        swept: Its values, as text, at the swept paths.
        steps: How many steps it is to take.
        last: Its last logged step.
        finished: Whether it reached its end.
        failure: Why it failed, if it did.
        lines: The lines of its metrics file.
    """

    name: str
    swept: dict[str, str]
    steps: int
    last: int
    finished: bool
    failure: str | None
    lines: tuple[dict[str, Any], ...]

    def metric(self, name: str) -> Points:
        """A metric's values; none if it was never logged."""
        found = [(line["step"], line[name]) for line in self.lines if isinstance(line.get(name), int | float)]
        steps, values = zip(*found, strict=True) if found else ((), ())
        return Points(np.array(steps, int), np.array(values, float))

    def flops(self, steps: np.ndarray) -> np.ndarray:
        """Analytic FLOPs spent after each of `steps`."""
        spent = self.metric("flops")
        # FLOPs are logged at some steps only; between them the steps are taken as equally costly.
        return np.interp(steps, [0, *spent.steps], [0.0, *spent.values])


def read_history(folder: Path, name: str, swept: dict[str, str], experiment: Experiment) -> History:
    """The history of a run, which may not have begun, or run elsewhere.

    Lines that only a stop wrote, between two planned ones, are left out: stopped or not, runs compare alike.
    """
    lines = read_metrics(folder) if (folder / METRICS).is_file() else []
    last, every = max((line["step"] for line in lines), default=0), experiment.log.every

    # The loss at the step of a stop is logged as well, at a step where an unbroken run logs nothing.
    def planned(line: dict[str, Any]) -> bool:
        return "loss" not in line or line["step"] % every == 0 or line["step"] == experiment.steps

    failure = folder / _FAILURE
    why = json.loads(failure.read_text())["why"] if failure.is_file() else None
    finished = last >= experiment.steps and why is None
    return History(name, swept, experiment.steps, last, finished, why, tuple(filter(planned, lines)))


def write_result(folder: Path, history: History) -> None:
    """Writes the last metrics of a run; the file marks the run as finished."""
    numbers = {
        name: value
        for line in history.lines
        for name, value in line.items()
        # Without times, which differ from run to run: a result of the same run must be the same file.
        if isinstance(value, int | float) and not name.startswith("time/") and name != "step"
    }
    result = {"steps": history.last, "flops": numbers.pop("flops", None), "metrics": numbers}
    store(folder / _RESULT, json.dumps(result, indent=1) + "\n")


def seconds(folder: Path) -> dict[str, float]:
    """Seconds of a run by category of its time ledger; empty if it has not begun."""
    try:
        return read_times(ledger_file(folder, 0)).totals
    except (OSError, ValueError):
        return {}


def is_finished(folder: Path) -> bool:
    """Whether a run is finished and has its result."""
    return (folder / _RESULT).is_file()


def note_failure(folder: Path, why: str) -> None:
    """Stores why a run failed; the next start of the sweep tries it again."""
    store(folder / _FAILURE, json.dumps({"why": why}) + "\n")


def forget_failure(folder: Path) -> None:
    """Removes the reason of an earlier failure: the run starts again."""
    (folder / _FAILURE).unlink(missing_ok=True)
