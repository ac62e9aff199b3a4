"""The processes of a job watch each other: if one is gone or stands still, the others end with a sentence.

Otherwise they would wait for it inside a collective operation, on some networks for hours.
"""

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from ivjax.train.distributed import service

BEAT_SECONDS = 5.0
# Several signs of life: a host that swaps, or a thread that keeps others from running, may miss some.
PATIENCE_SECONDS = 60.0
# Of a job in which all live and none takes a step; at least so many times the longest step so far.
STALL_SECONDS, STALL_STEPS = 900.0, 20
_TRAINING = ("step", "data wait")  # in all else, such as evals, a step may take any time
_KEYS, _LOST = "ivjax/watch", "ivjax/lost"
# What errors of jax say if a connection to another process is the cause.
_LOST_CONNECTION = ("gloo", "nccl", "connection", "socket", "peer", "unavailable", "deadline", "barrier")

Where = Callable[[], tuple[int, str]]  # the step of the process, and the category of its time


class Watch:
    """Gives signs of life of this process to the others, and looks at those of the next one."""

    def __init__(self, store: Any, process: int, processes: int):
        self._store = store
        self._process, self._processes = process, processes
        self.where: Where | None = None
        self._beats = 0
        self._next, self._own = Seen(), Seen()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Tells the others that this process is done, and looks no more."""
        self._ended.set()
        self._thread.join(BEAT_SECONDS)
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._put(_key(self._process), "")

    def _watch(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                lost = self._beat()
            except jax.errors.JaxRuntimeError as error:
                lost = f"the process that holds the job together is gone ({_first_line(error)})"
            if lost and not self._ended.is_set():
                leave(lost)

    def _beat(self) -> str | None:
        """Gives one sign of life; returns a sentence if the job cannot go on."""
        self._beats += 1
        step, phase = self.where() if self.where else (0, "outside of training")
        self._put(_key(self._process), f"{self._beats}/{step}/{phase}")
        # Each looks at one other, so that a thousand processes do not ask a million times.
        following = (self._process + 1) % self._processes
        found = self._get(_key(following))
        if found and (silent := self._next.unchanged(found)) > PATIENCE_SECONDS:
            self._put(_LOST, f"{_last_seen(following, found)}, and gave no sign of life for {silent:.0f} s")
        # After an eval the time counts anew, or the step behind it would seem as long as both.
        still = self._own.unchanged(str(step)) if phase in _TRAINING else self._own.forget()
        if still > max(STALL_SECONDS, STALL_STEPS * self._own.longest):
            self._look_around(still)
        return self._get(_LOST)

    def _look_around(self, still: float) -> None:
        """Says who stands where, if all train and none gets on."""
        found = {int(key.rpartition("/")[2]): text for key, text in self._store.key_value_dir_get(_KEYS)}
        if all(text.rpartition("/")[2] in _TRAINING for text in found.values()):
            last = min(found, key=lambda process: int(found[process].split("/")[1]))
            self._put(_LOST, f"no process got on for {still:.0f} s; {_last_seen(last, found[last])}")

    def _put(self, key: str, text: str) -> None:
        self._store.key_value_set(key, text, allow_overwrite=True)

    def _get(self, key: str) -> str | None:
        try:
            return str(self._store.key_value_try_get(key))
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" in str(error):
                return None
            raise


class Seen:
    """For how long something has looked the same."""

    def __init__(self) -> None:
        self._text, self._since = "", time.monotonic()
        self.longest = 0.0

    def unchanged(self, text: str) -> float:
        """Returns the seconds since it first looked like this."""
        now = time.monotonic()
        if text != self._text:
            if self._text:
                self.longest = max(self.longest, now - self._since)
            self._text, self._since = text, now
        return now - self._since

    def forget(self) -> float:
        """Lets the time count anew; returns no seconds."""
        self._text = ""
        return 0.0


_watches: list[Watch] = []  # of this process: none, or one from the moment in which it has joined a job


def begin() -> None:
    """Starts to watch, if this process is one of several."""
    if jax.process_count() > 1 and not _watches:
        _watches.append(Watch(service(), jax.process_index(), jax.process_count()))
        # Called before jax closes the store, because it was registered later.
        atexit.register(_watches[0].end)


@contextlib.contextmanager
def watched(where: Where) -> Iterator[None]:
    """Tells the others inside the block how far this process is.

    An error that comes of a lost connection to them ends this process with a sentence.
    """
    for watch in _watches:
        watch.where = where
    try:
        yield
    except Exception as error:
        if is_lost_connection(error):
            step, _ = where()
            leave(f"the connection to another process was lost after step {step} ({_first_line(error)})")
        raise
    finally:
        for watch in _watches:
            watch.where = None


def is_lost_connection(error: Exception) -> bool:
    """Whether an error comes of a lost connection to another process, in a step or in a save."""
    # As the checkpoint library hands on what jax raises.
    kind = isinstance(error, jax.errors.JaxRuntimeError | ValueError)
    text = str(error).lower()
    return kind and jax.process_count() > 1 and any(word in text for word in _LOST_CONNECTION)


def leave(why: str) -> None:
    """Ends this process at once: without the others nothing can be saved, and an exit would wait for them."""
    process, processes = jax.process_index(), jax.process_count()
    then = "a new start continues from the last checkpoint"
    print(f"ivjax: {why}; process {process} of {processes} ends, and {then}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    # Process 0 holds the store: with it gone the others would be ended before they have said anything.
    if process == 0:
        time.sleep(2 * BEAT_SECONDS)
    os._exit(1)


def _key(process: int) -> str:
    return f"{_KEYS}/{process}"


def _last_seen(process: int, text: str) -> str:
    _, step, phase = text.split("/")
    return f"process {process} was last seen at step {step} ({phase})"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:160]
