"""A polite end: SIGTERM and Ctrl-C let the step finish, save and leave."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import jax


class StopRequest:
    """What this process was asked: `stop` after the present step, and whether by `interrupt` (Ctrl-C)."""

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
            os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def listening() -> Iterator[StopRequest]:
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
