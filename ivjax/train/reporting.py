"""Reports on the steps of a run: log lines, rates, skipped steps."""

import time
from collections import Counter
from typing import NamedTuple

import jax

from ivjax.errors import UserError
from ivjax.stages.objective import Metrics
from ivjax.train.feed import Fed
from ivjax.train.metrics import console_line
from ivjax.train.session import Session
from ivjax.train.throughput import Throughput

_GIVE_UP_AFTER = 10  # skipped steps in a row


class _Done(NamedTuple):
    """A step that was taken, the clips of its batch, and its metrics, which may not be computed yet."""

    step: int
    medium: str
    first_clip: int
    metrics: Metrics


class Reporter:
    """Collects the metrics of steps and writes those of the last one when asked.

    Metrics stay on the devices until then, because fetching them would make the host wait for each step.
    """

    def __init__(self, session: Session):
        self._session = session
        objective, mesh = session.program.objective, session.program.mesh
        self._media = objective.media
        self._throughput = Throughput(objective, session.experiment.batch, mesh.size, session.ledger)
        self._began, self._first = time.monotonic(), session.step
        self._pending: list[_Done] = []
        self._skipped_in_a_row = 0
        # Counted again rather than stored, because the medium of a step is a function of its number.
        self._steps_of_medium = Counter(session.feed.medium(step) for step in range(session.step))

    def add(self, step: int, fed: Fed, metrics: Metrics) -> None:
        """Notes that a step was dispatched."""
        self._pending.append(_Done(step, fed.medium, fed.first, metrics))
        self._steps_of_medium[fed.medium] += 1
        self._throughput.count(fed.medium)

    def report(self) -> None:
        """Logs the last of the steps since the call before and looks for skipped ones among all of them."""
        if not self._pending:
            return
        session, last = self._session, self._pending[-1].step
        # One transfer for all steps: each fetch waits for the devices.
        fetched = jax.device_get([done.metrics for done in self._pending])
        for done, metrics in zip(self._pending, fetched, strict=True):
            self._skipped_in_a_row = 0 if metrics["finite"] else self._skipped_in_a_row + 1
            if self._skipped_in_a_row:
                self._note_skipped(done)
        self._pending.clear()
        values = {name: float(value) for name, value in fetched[-1].items() if name != "finite"}
        values = {"loss": values.pop("loss"), **values}
        counts = {"skipped": int(jax.device_get(session.state["skipped"]))}
        shown = values | counts | self._throughput.since_last() | session.feed.report()
        steps, passed = session.experiment.steps, time.monotonic() - self._began
        left = seconds_left(passed, last - self._first, steps - last)
        session.say(console_line(last, steps, shown, left))
        spent = {f"time/{name}": round(seconds, 3) for name, seconds in session.ledger.totals().items()}
        session.log.write(last, shown | {"flops": self._flops()} | spent)
        # The others write theirs with each checkpoint: a thousand small files at each line are too many.
        if jax.process_index() == 0:
            session.ledger.write()
        if self._skipped_in_a_row >= _GIVE_UP_AFTER:
            raise UserError(
                f"the last {self._skipped_in_a_row} steps up to {last} had a non-finite loss or gradient and "
                "were skipped; lower schedule.peak or optimizer.clip, or look at the clips listed in "
                f"{session.folder / 'skipped.jsonl'}"
            )

    def _note_skipped(self, done: _Done) -> None:
        """Lists the clips of a step whose update was skipped, by their places in the global order."""
        session = self._session
        why = f"non-finite loss or gradient (clips {done.first_clip}.. of the order)"
        session.say(f"step {done.step} was skipped: {why}")
        last_clip = done.first_clip + session.experiment.batch - 1
        line = {"step": done.step, "medium": done.medium}
        line |= {"first_index": done.first_clip, "last_index": last_clip}
        session.log.append("skipped.jsonl", line)

    def _flops(self) -> float:
        """Analytic FLOPs of all steps so far, those before a restart included."""
        batch = self._session.experiment.batch
        steps = self._steps_of_medium.items()
        return float(sum(batch * n * sum(self._media[medium].flops.values()) for medium, n in steps))


def seconds_left(passed: float, done: int, left: int) -> float | None:
    """Returns the seconds for the steps that are left, if `done` steps took `passed`; None if none is left.

    `passed` counts all, because evals and checkpoints will take their time again.
    """
    return passed / done * left if left > 0 else None
