"""Sends numbers to a tracker from a thread of its own."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping

from ivjax.progress import Say
from ivjax.train.trackers.tracker import Tracker

_MOST_WAITING = 10_000  # steps whose values wait for a tracker that cannot be reached
_LAST_SECONDS = 90.0  # that a run waits at its end


class Background:
    """A tracker on another machine: no network holds up a step, and no failure ends a run.

    What fails is said once. A tracker that cannot be opened gets nothing; one that fails later still gets the
    steps after that.
    """

    def __init__(self, name: str, opened: Callable[[], Tracker], first: int, say: Say):
        """Begins to send.

        Args:
            name: what messages call the tracker.
            opened: returns it; called in the thread.
            first: the step that is sent first, as those before were sent by an earlier start.
            say: takes what fails.
        """
        self._name, self._opened, self._first, self._say = name, opened, first, say
        self._failed = False
        # Steps with their values, and at the end whether the run is finished.
        self._waiting: queue.Queue[tuple[int, Mapping[str, float]] | bool] = queue.Queue(_MOST_WAITING)
        # A daemon: a process that ends must not wait for a network that hangs.
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Hands over the values of one step."""
        # A step that a kill has made a run take again: neither W&B nor MLflow replaces what it has of it.
        if step >= self._first:
            self._put((step, dict(values)))

    def close(self, finished: bool) -> None:
        """Waits until all has been sent, but not for ever."""
        self._put(finished)
        self._thread.join(_LAST_SECONDS)
        if self._thread.is_alive():
            self._tell("it has not taken all numbers yet; the run ends without")

    def _put(self, item: tuple[int, Mapping[str, float]] | bool) -> None:
        if not self._thread.is_alive():
            return
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            self._tell("it takes no numbers; the run goes on, and leaves out what does not fit into memory")

    def _work(self) -> None:
        try:
            tracker = self._opened()
        except Exception as error:  # whatever the packages raise
            self._tell(f"{_reason(error)}; the run goes on without")
            return
        while not isinstance(item := self._waiting.get(), bool):
            with self._telling():
                tracker.add(*item)
        with self._telling():
            tracker.close(item)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._tell(f"{_reason(error)}; the run goes on, and numbers may be missing there")

    def _tell(self, what: str) -> None:
        if not self._failed:
            self._say(f"{self._name}: {what}")
        self._failed = True


def _reason(error: Exception) -> str:
    # Some packages add pages.
    return " ".join(str(error).split())[:200] or type(error).__name__
