"""Frame rules of stages 2 and 3: equal intervals, frames per second, by duration."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

import ivjax.data_pipelines.sampling.indices as indices
from ivjax.data_pipelines.sampling.for_tests import rule_for_tests
from ivjax.data_pipelines.sampling.frame_rule import FrameRule, check_counts, fill
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError
from ivjax.experiment.ranges import Count


@dataclass(frozen=True)
class Intervals:
    """One frame of each of `frames` equal intervals; a shorter clip repeats its last frame.

    Attributes:
        frames: number of intervals.
        pick: a `random` frame of the interval, its `middle`, or its `start` plus `shift`.
        shift: frames to add with `start`.
        original_draw: draws as ViCLIP and InternVideo2 do: never the last frame of an interval, and a
            sorted random subset of all frames if any interval has only one.
    """

    frames: Count
    pick: Literal["random", "middle", "start"] = "random"
    shift: int = 0
    original_draw: bool = False

    def __post_init__(self) -> None:
        check_counts(frames=self.frames)
        if self.shift < 0:
            raise UserError(f"a frame rule has shift={self.shift}; frames move on, never back")

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers of a clip: (frames,) int64."""
        first, last = indices.interval_bounds(length, self.frames).T
        if self.pick == "middle":
            found = (first + last) // 2
        elif self.pick == "start":
            found = first + self.shift
        elif not self.original_draw:
            found = rng.integers(first, last + 1)
        elif (last > first).all():
            # The upper bound is exclusive, which is how the originals come to miss the last frame.
            found = rng.integers(first, last)
        else:
            found = np.sort(rng.permutation(length)[: len(first)])
        return fill(found, self.frames, length)

    def for_tests(self) -> FrameRule:
        """Returns the rule that takes the middle of each interval, if this one draws."""
        return replace(self, pick="middle", original_draw=False) if self.pick == "random" else self


@dataclass(frozen=True)
class PerSecond:
    """`rate` frames a second, at most `frames`; a shorter clip repeats its last frame.

    Attributes:
        frames: how many frames come out.
        rate: frames a second.
        longer: a clip with more frames is `cut` after `frames`, as the originals do, or `spread`: the
            frames come from its whole length.
    """

    frames: Count
    rate: float = 1.0
    longer: Literal["cut", "spread"] = "cut"

    def __post_init__(self) -> None:
        check_counts(frames=self.frames, rate=self.rate)

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers of a clip: (frames,) int64."""
        return fill(self._found(length, fps), self.frames, length)

    def count(self, length: int, fps: float) -> int:
        """Number of frames that are read of the clip, without the repeats."""
        return len(self._found(length, fps))

    def _found(self, length: int, fps: float) -> np.ndarray:
        # Images have a rate of 0, which no rule by seconds can use.
        if length == 1:
            return np.zeros(1, np.int64)
        found = indices.per_second(length, _known(fps), self.rate)
        if len(found) == 0:
            found = np.array([length // 2])
        elif len(found) > self.frames and self.longer == "spread":
            found = found[indices.interval_bounds(len(found), self.frames).sum(1) // 2]
        return found[: self.frames]

    def for_tests(self) -> FrameRule:
        """Returns the rule itself, which draws nothing."""
        return self


@dataclass(frozen=True)
class ByDuration:
    """About one frame a second, between `least` and `frames` frames; the rest repeats the last one.

    Attributes:
        frames: how many frames come out, and the most that are read.
        local: the number that is read is a multiple of this.
        least: the fewest that are read.
        pick: the `middle` frames of equal intervals, or frames at `even` steps, as InternVideo2.5 tests.
        lower: a clip of fewer than `least` frames is read once, as VideoChat-Flash does.
    """

    frames: Count
    local: int = 4
    least: int = 64
    pick: Literal["middle", "even"] = "middle"
    lower: bool = False

    def __post_init__(self) -> None:
        check_counts(frames=self.frames, local=self.local, least=self.least)
        if self.least > self.frames:
            raise UserError(f"a frame rule has least={self.least}, but room for frames={self.frames}")

    def count(self, length: int, fps: float) -> int:
        """Number of frames that the originals read of the clip, without the repeats."""
        least = indices.lowered(self.least, length, self.local) if self.lower else self.least
        seconds = 0.0 if length == 1 else length / _known(fps)
        return indices.frames_for(seconds, self.local, least, self.frames)

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers of a clip: (frames,) int64."""
        count = self.count(length, fps)
        if self.pick == "even":
            return fill(indices.spread(length, count), self.frames, length)
        return fill(indices.interval_bounds(length, count).sum(1) // 2, self.frames, length)

    def for_tests(self) -> FrameRule:
        """Returns the rule itself, which draws nothing."""
        return self


# Presets for stage 3. Their limits are those of the originals: unify_internvl2_train_r16.py, InternVideo2.5's
# model card, and `dynamic_fps1` of VideoChat-Flash.
INTERNVIDEO25_TRAIN = ByDuration(256, local=8, least=64)
INTERNVIDEO25_TEST = ByDuration(512, local=4, least=128, pick="even")
VIDEOCHAT_FLASH = ByDuration(512, local=4, least=64, lower=True)


@dataclass(frozen=True)
class Within:
    """Applies `rule` to a span of the clip.

    Attributes:
        rule: the rule for the frames of the span.
        start: second at which the span begins.
        end: second at which it ends; None is the end of the clip.
        original_lazy: reproduces InternVideo2's reader of spans: after a start above 0 it reads
            consecutive frames, whatever the rule.
    """

    rule: FrameRule
    start: float = 0.0
    end: float | None = None
    original_lazy: bool = False

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise UserError(
                f"a frame rule has start={self.start:g} and end={self.end}; start 0 or more, end after it"
            )

    @property
    def frames(self) -> int:
        """Number of frames that come out."""
        return self.rule.frames

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers of a clip: (frames,) int64."""
        first = min(int(fps * self.start), length - 1)
        part = length - first
        if self.end is not None:
            part = max(min(part, int(fps * (self.end - self.start))), 1)
        # The original compares times of the file with numbers of the clip, and so takes whatever comes first.
        if self.original_lazy and first > 0:
            return fill(first + np.arange(self.frames), self.frames, length)
        return first + self.rule.choose(part, fps, rng)

    def for_tests(self) -> FrameRule:
        """Returns the rule of tests for the same span."""
        return replace(self, rule=rule_for_tests(self.rule))


def _known(fps: float) -> float:
    if fps <= 0:
        raise ClipError("no frame rate", "the video does not say how many frames a second has")
    return fps
