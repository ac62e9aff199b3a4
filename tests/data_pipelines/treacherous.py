"""A frame rule for tests of crashes and hangs, in a module of its own because workers import it."""

import os
import signal
import time
from dataclasses import dataclass

from ivjax.data_pipelines.sampling import Intervals


@dataclass(frozen=True)
class Treacherous:
    """A frame rule that kills its process at clips of 9 frames, and never ends at those of 10."""

    frames: int = 4

    def choose(self, length, fps, rng):
        if length == 9:
            os.kill(os.getpid(), signal.SIGSEGV)
        while length == 10:
            time.sleep(1)
        return Intervals(4).choose(length, fps, rng)
