"""Frame rules of stages 2 and 3 as config values: equal parts, frames per second, by duration."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ivjax.data_pipelines.sampling import indices
from ivjax.data_pipelines.sampling.frame_rule import FrameRule, check_counts, fill
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError


@dataclass(frozen=True)
class Intervals:
    """One frame of each of `frames` equal parts; a shorter clip repeats its last one.

    pick: a `random` frame of the part, the `middle` one, or the `start` moved on by `shift` frames.
    original_draw: as ViCLIP and InternVideo2 draw, never the last frame of a part, and a random sorted
    subset of all frames where a part has but one.
    """

    frames: int
    pick: Literal["random", "middle", "start"] = "random"
    shift: int = 0
    original_draw: bool = False

    def __post_init__(self) -> None:
        check_counts(frames=self.frames)
        if self.shift < 0:
            raise UserError(f"a frame rule has shift={self.shift}; frames move on, never back")

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See FrameRule."""
        first, last = indices.interval_bounds(length, self.frames).T
        if self.pick == "middle":
            found = (first + last) // 2
        elif self.pick == "start":
            found = first + self.shift
        elif not self.original_draw:
            found = rng.integers(first, last + 1)
        elif (last > first).all():
            found = rng.integers(first, last)
        else:
            found = np.sort(rng.permutation(length)[: len(first)])
        return fill(found, self.frames, length)


@dataclass(frozen=True)
class PerSecond:
    """`rate` frames a second into an array of `frames`, where a shorter clip repeats its last one.

    longer: a clip with more of them is `cut` after `frames`, as the originals do, or `spread`: `frames`
    of them from its whole length. `indices.per_second` has them all.
    """

    frames: int
    rate: float = 1.0
    longer: Literal["cut", "spread"] = "cut"

    def __post_init__(self) -> None:
        check_counts(frames=self.frames, rate=self.rate)

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See FrameRule."""
        if length == 1:
            return np.zeros(self.frames, np.int64)
        found = indices.per_second(length, _known(fps), self.rate)
        if len(found) == 0:
            found = np.array([length // 2])
        elif len(found) > self.frames and self.longer == "spread":
            found = found[indices.interval_bounds(len(found), self.frames).sum(1) // 2]
        return fill(found[: self.frames], self.frames, length)


@dataclass(frozen=True)
class ByDuration:
    """About one frame a second, from `least` to `frames` and a multiple of `local`, in an array of `frames`.

    `count` says how many the originals read; the rest repeats the last. pick: the `middle` frames of equal
    parts, or those at `even` steps, as InternVideo2.5 tests. lower: a clip of fewer frames than `least`
    is read once, as VideoChat-Flash does, and not filled up to `least`.
    """

    frames: int
    local: int = 4
    least: int = 64
    pick: Literal["middle", "even"] = "middle"
    lower: bool = False

    def __post_init__(self) -> None:
        check_counts(frames=self.frames, local=self.local, least=self.least)
        if self.least > self.frames:
            raise UserError(f"a frame rule has least={self.least}, but room for frames={self.frames}")

    def count(self, length: int, fps: float) -> int:
        """How many frames the originals read of the clip."""
        least = indices.lowered(self.least, length, self.local) if self.lower else self.least
        seconds = 0.0 if length == 1 else length / _known(fps)
        return indices.frames_for(seconds, self.local, least, self.frames)

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See FrameRule."""
        count = self.count(length, fps)
        if self.pick == "even":
            return fill(indices.spread(length, count), self.frames, length)
        return fill(indices.interval_bounds(length, count).sum(1) // 2, self.frames, length)


INTERNVIDEO25_TRAIN = ByDuration(256, local=8, least=64)
INTERNVIDEO25_TEST = ByDuration(512, local=4, least=128, pick="even")
VIDEOCHAT_FLASH = ByDuration(512, local=4, least=64, lower=True)


@dataclass(frozen=True)
class Within:
    """`rule`, for the part of a clip from second `start` to second `end` (None: to its end).

    original_lazy: after a start above 0, just the next frames in a row, whatever the rule, as
    InternVideo2's reader of parts does.
    """

    rule: FrameRule
    start: float = 0.0
    end: float | None = None
    original_lazy: bool = False

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise UserError(f"a frame rule reads from second {self.start:g} to {self.end}; that is no time")

    @property
    def frames(self) -> int:
        """See FrameRule."""
        return self.rule.frames

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See FrameRule."""
        first = min(int(fps * self.start), length - 1)
        part = length - first
        if self.end is not None:
            part = max(min(part, int(fps * (self.end - self.start))), 1)
        if self.original_lazy and first > 0:
            return fill(first + np.arange(self.frames), self.frames, length)
        return first + self.rule.choose(part, fps, rng)


def _known(fps: float) -> float:
    if fps <= 0:
        raise ClipError("no frame rate", "the video does not say how many frames a second has")
    return fps
