"""SIGTERM and Ctrl-C: the run finishes its step, saves and ends."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import jax


class StopRequest:
    """A signal handler that remembers what was asked.

    Attributes:
        stop: whether to stop after the present step.
        interrupt: whether Ctrl-C asked for it.
    """

    def __init__(self) -> None:
        self.stop = False
        self.interrupt = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.interrupt and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait
        self.interrupt = number == signal.SIGINT
        if jax.process_count() == 1:
            self.stop = True
        else:
            # Only jax's service can make all processes stop at one step, and it listens to SIGTERM alone.
            os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Catches SIGTERM and SIGINT inside the block.

    In a job of several processes SIGTERM is left to jax's preemption service, which makes all of
    them agree on the step to stop at, and Ctrl-C is turned into it.
    """
    request = StopRequest()
    signals = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, request) for number in signals}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
