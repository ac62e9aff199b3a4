"""Frame rules for tests of crashes and hangs, in a module of their own because workers import it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.video import frame_cache

_decode_into = frame_cache._decode_into


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


@dataclass(frozen=True)
class Deadly:
    """A frame rule that once kills its process at a clip of 9 frames, and once hangs at one of 10.

    In worker processes, clips of 11 frames never end when the cache decodes them whole.
    """

    folder: str
    frames: int = 4

    def choose(self, length, fps, rng):
        mark = Path(self.folder, str(length))
        if length in (9, 10) and not mark.exists():
            mark.touch()
            if length == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)
        return Intervals(4).choose(length, fps, rng)

    def __setstate__(self, state):
        self.__dict__.update(state)
        frame_cache._decode_into = _decode_unless_long


def _decode_unless_long(frames, layout, video):
    while len(frames) == 11:
        time.sleep(1)
    return _decode_into(frames, layout, video)
