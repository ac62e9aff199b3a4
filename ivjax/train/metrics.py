"""The run's numbers: a JSONL file always, trackers such as TensorBoard beside it, a line on the terminal."""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from ivjax.convert.folder_weights import holds_weights
from ivjax.drafts import set_aside, store
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.run_folder import METRICS, logged_line
from ivjax.progress import Say, duration
from ivjax.train.saving import check_folder
from ivjax.train.trackers.opening import open_tracker
from ivjax.train.trackers.tracker import Tracker


class MetricsLog:
    """Writes metrics from process 0; a resumed run continues the file where its checkpoint stands.

    What cannot be written, on a full disk say, is said once and left out: no record stops a run.
    """

    def __init__(self, experiment: Experiment, folder: Path, step: int, say: Say = print):
        self._folder = folder
        self._say = say
        self._main = jax.process_index() == 0
        self._failing: set[str] = set()
        self._trackers: dict[str, Tracker] = {}
        self._step, self._last_step = step, experiment.steps
        if self._main:
            logged = self._forget_after(folder / METRICS, step)
            for name in experiment.log.to:
                with self._recording(name):
                    self._trackers[name] = open_tracker(name, experiment, folder, step, logged, say)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Stores one step's values."""
        self._step = step
        # JSON has no word for what is no number, such as the loss of a skipped step.
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self.append(METRICS, {"step": step, **plain})
        for name, tracker in self._working():
            with self._recording(name):
                tracker.add(step, values)

    def append(self, name: str, values: dict[str, Any]) -> None:
        """Appends a line of JSON to a file of the run folder."""
        if not self._main:
            return
        # What a failed write has left of a line must not spoil the next one.
        torn = "\n" if name in self._failing else ""
        line = f"{torn}{json.dumps(values, allow_nan=False)}\n"
        # Opened for each line, so that a kill loses at most the one that is being written.
        with self._recording(name), (self._folder / name).open("a") as file:
            file.write(line)

    def close(self) -> None:
        """Closes the trackers."""
        for name, tracker in self._working():
            with self._recording(name):
                tracker.close(finished=self._step >= self._last_step)

    def _working(self) -> list[tuple[str, Tracker]]:
        return [(name, tracker) for name, tracker in self._trackers.items() if name not in self._failing]

    @contextlib.contextmanager
    def _recording(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            check_folder(self._folder)
            if name not in self._failing:
                why = error.strerror or error
                self._say(f"{self._folder / name} cannot be written ({why}); the run goes on without")
            self._failing.add(name)

    def _forget_after(self, file: Path, step: int) -> int:
        """Drops lines of steps that will be done again, and unreadable ones; returns the last step logged."""
        if file.is_dir():
            aside = set_aside(file)
            self._say(f"{file} is a folder; it is {aside.name} now, and the metrics start anew")
        if not file.is_file():
            return 0
        # As bytes: one damaged line must not take the others with it.
        lines = [line for line in file.read_bytes().splitlines() if line]
        logged = [(line, found) for line in lines if (found := logged_line(line)) is not None]
        unreadable = len(lines) - len(logged)
        # One is what a kill leaves half-written.
        if unreadable > 1:
            self._say(f"{unreadable} lines of {file} cannot be read; they are dropped")
        # Replaced in one move: a kill here must not take the history of the run.
        store(file, b"".join(line + b"\n" for line, found in logged if found["step"] <= step))
        return int(max((found["step"] for _, found in logged), default=0))


def console_line(step: int, steps: int, values: dict[str, float], left: float | None = None) -> str:
    """Returns a log line for a person; `left` are the seconds that the run still takes, if known."""
    parts = [f"{name} {_short(value)}" for name, value in values.items()]
    if left is not None:
        parts.append(f"{duration(left)} left")
    return f"step {step}/{steps}  " + "  ".join(parts)


def _short(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def open_workdir(folder: Path) -> None:
    """Makes the run folder and proves that it can be written."""
    scheme, colon, _ = str(folder).partition(":/")
    if colon and scheme.isalnum():
        raise UserError(
            f"the run folder {scheme}:/... is a bucket and no Path: give its address as a text, {scheme}://..."
        )
    if holds_weights(folder):
        raise UserError(
            f"{folder} holds a model that is published, whose settings a run would replace; choose another "
            f"--workdir, and init_from=('{folder}',) to go on from it"
        )
    # The name has the process in it: several hosts may probe one folder at the same time.
    probe = folder / f".write-test-{jax.process_index()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write in the run folder {folder} ({error.strerror}); choose another --workdir"
        ) from None
