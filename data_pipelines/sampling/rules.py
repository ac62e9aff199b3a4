"""Frame rules as config values: how many frames come out, and which."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ivjax.data_pipelines.sampling import indices
from ivjax.errors import UserError


class FrameRule(Protocol):
    """Chooses frames of a clip."""

    @property
    def frames(self) -> int:
        """How many frames come out, whatever the clip."""
        ...

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Numbers of frames of a clip of `length` frames, each in [0, length): (frames,) int64."""
        ...


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
        return _fill(found, self.frames, length)


@dataclass(frozen=True)
class PerSecond:
    """`rate` frames a second, at most `frames`; a shorter clip repeats its last one."""

    frames: int
    rate: float = 1.0

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See FrameRule."""
        if fps <= 0:  # an image
            return np.zeros(self.frames, np.int64)
        found = indices.per_second(length, fps, self.rate, self.frames)
        return _fill(found if len(found) else np.array([length // 2]), self.frames, length)


@dataclass(frozen=True)
class Segments:
    """VideoMAE's readers: from each of `segments` parts, `length` frames that are `step` apart.

    Sparse reading is length 1, dense reading one segment. A clip that is too short starts at 0 every
    time. original_numbers: frame numbers are one too small, as InternVideo2 and InternVideo-Next read
    them, and the one before the first is the last.
    """

    segments: int
    length: int = 1
    step: int = 1
    original_numbers: bool = False

    @property
    def frames(self) -> int:
        """See FrameRule."""
        return self.segments * self.length

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See FrameRule."""
        span = self.length * self.step
        room = indices.segment_room(length, self.segments, span)
        if room > 0:
            starts = np.arange(self.segments) * room + rng.integers(room, size=self.segments)
        elif length > max(self.segments, span):
            starts = np.sort(rng.integers(length - span + 1, size=self.segments))
        else:
            starts = np.zeros(self.segments, np.int64)
        origin = 0 if self.original_numbers else 1
        return indices.walk(starts, self.length, self.step, length, origin) % length


@dataclass(frozen=True)
class Spread:
    """Kinetics' sparse reader: `frames` intervals that share their ends.

    pick: a `random` frame of each, its `middle` (validation), or view `view` of `views` (testing).
    """

    frames: int
    pick: Literal["random", "middle", "view"] = "random"
    view: int = 0
    views: int = 1

    def __post_init__(self) -> None:
        _check_view(self.view, self.views)

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See FrameRule."""
        if self.pick == "middle":
            found = indices.spread(length, self.frames, 0.5)
        elif self.pick == "view":
            found = indices.spread_view(length, self.frames, self.view, self.views)
        else:
            first, last = indices.spread_bounds(length, self.frames).T
            found = rng.integers(first, last + 1)
        return np.minimum(found, length - 1)


@dataclass(frozen=True)
class Dense:
    """Neighbouring frames `rate` apart: from a random start, or view `view` of `views`."""

    frames: int
    rate: int = 4
    view: int | None = None
    views: int = 1

    def __post_init__(self) -> None:
        _check_view(self.view or 0, self.views)

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See FrameRule."""
        if self.view is not None:
            return indices.dense_view(length, self.frames, self.rate, self.view, self.views)
        start = rng.integers(max(length - self.frames * self.rate, 0) + 1)
        return _fill(np.arange(start, length, self.rate)[: self.frames], self.frames, length)


@dataclass(frozen=True)
class Ticks:
    """Something-Something's reader of frame folders: parts of whole frames.

    pick: a `random` frame of each part, its `middle` (validation), or view `view` of `views` (testing).
    """

    frames: int
    pick: Literal["random", "middle", "view"] = "random"
    view: int = 0
    views: int = 1

    def __post_init__(self) -> None:
        _check_view(self.view, self.views)

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See FrameRule."""
        if self.pick == "view":
            return indices.tick_view(length, self.frames, self.view, self.views)
        part = length // self.frames
        if part == 0:
            return np.minimum(np.arange(self.frames), length - 1)
        inside = part // 2 if self.pick == "middle" else rng.integers(part, size=self.frames)
        return np.arange(self.frames) * part + inside


@dataclass(frozen=True)
class ByDuration:
    """InternVideo2.5's and VideoChat-Flash's number of frames, about one a second, in an array of `frames`.

    The clip's own number, from `least` to `frames` and a multiple of `local`, are the middles of equal
    parts; the rest of the array repeats the last. `count` says how many are the clip's own.
    """

    frames: int
    local: int = 4
    least: int = 64

    def count(self, length: int, fps: float) -> int:
        """How many different places are read of a clip."""
        return indices.frames_for_clip(
            length, fps or 1.0, self.local, min(self.least, self.frames), self.frames
        )

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """See FrameRule."""
        first, last = indices.interval_bounds(length, max(self.count(length, fps), 1)).T
        return _fill((first + last) // 2, self.frames, length)


def _fill(found: np.ndarray, frames: int, length: int) -> np.ndarray:
    """`frames` numbers below `length`, the last one repeated where there are fewer."""
    found = np.minimum(found, length - 1)
    return np.concatenate([found, np.full(frames - len(found), found[-1])]).astype(np.int64)


def _check_view(view: int, views: int) -> None:
    if views < 1 or not 0 <= view < views:
        raise UserError(f"view={view} of views={views}; views count from 0 and there is at least one")
