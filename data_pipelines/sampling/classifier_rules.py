"""Frame rules of the originals' VideoMAE and classification readers."""

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

import ivjax.data_pipelines.sampling.indices as indices
from ivjax.data_pipelines.sampling.for_tests import MiddleDraws
from ivjax.data_pipelines.sampling.frame_rule import FrameRule, check_counts, check_view, fill
from ivjax.experiment.ranges import Count

P = TypeVar("P", bound="_Picking")


@dataclass(frozen=True)
class Segments:
    """VideoMAE's readers: `length` frames, `step` apart, from each of `segments` equal segments.

    Sparse reading has length 1, dense reading one segment. A clip that is too short is read from frame 0.

    Attributes:
        segments: number of segments.
        length: frames of each segment.
        step: distance between the frames of a segment.
        original_numbers: reproduces InternVideo2 and InternVideo-Next, whose frame numbers are one too
            small; frame -1 is then the last one.
    """

    segments: Count
    length: Count = 1
    step: int = 1
    original_numbers: bool = False

    def __post_init__(self) -> None:
        check_counts(segments=self.segments, length=self.length, step=self.step)

    @property
    def frames(self) -> int:
        """Number of frames that come out."""
        return self.segments * self.length

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers of a clip: (frames,) int64."""
        span = self.length * self.step
        room = indices.segment_room(length, self.segments, span)
        if room > 0:
            starts = np.arange(self.segments) * room + rng.integers(room, size=self.segments)
        elif length > max(self.segments, span):
            # Segments overlap then, and sorting keeps the frames in order of time.
            starts = np.sort(rng.integers(length - span + 1, size=self.segments))
        else:
            # As the originals. Interval rules return all frames of a short clip; these repeat the first.
            starts = np.zeros(self.segments, np.int64)
        origin = 0 if self.original_numbers else 1
        # The remainder turns frame -1 of `original_numbers` into the last one, as decord reads it.
        return indices.walk(starts, self.length, self.step, length, origin) % length

    def for_tests(self) -> FrameRule:
        """Returns the rule that reads the middle of each segment."""
        if self.original_numbers or min(self.segments, self.length) > 1:
            return MiddleDraws(self)
        # Dense reading takes the middle of the clip, sparse reading the middle of each segment.
        return Ticks(self.segments, "middle") if self.length == 1 else Dense(self.length, self.step, view=0)


@dataclass(frozen=True)
class _Picking:
    """Options of the rules that take one frame from each of `frames` intervals."""

    frames: Count
    pick: Literal["random", "middle", "view"] = "random"
    view: int = 0
    views: Count = 1

    def __post_init__(self) -> None:
        check_counts(frames=self.frames)
        check_view(self.view, self.views)

    def for_tests(self: P) -> P:
        """Returns the rule that takes the middle of each interval, if this one draws."""
        return replace(self, pick="middle") if self.pick == "random" else self

    def view_for_tests(self: P, view: int, views: int) -> P:
        """Returns the rule of one view of several; of a single one, the rule of validation."""
        return self.for_tests() if views == 1 else replace(self, pick="view", view=view, views=views)


@dataclass(frozen=True)
class Spread(_Picking):
    """Kinetics' sparse reader: one frame of each interval, where neighbouring intervals share a frame.

    Attributes:
        frames: number of intervals.
        pick: a `random` frame of each (training), its `middle` (validation, and InternVideo2's reader of
            spans of videos), or view `view` of `views` (testing).
        view: number of the view, from 0.
        views: number of views.
    """

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers of a clip: (frames,) int64."""
        if self.pick == "random":
            first, last = indices.spread_bounds(length, self.frames).T
            found = rng.integers(first, last + 1)
        elif self.pick == "middle":
            found = indices.spread(length, self.frames)
        else:
            found = indices.spread(length, self.frames, self.view, self.views)
        return np.minimum(found, length - 1)


@dataclass(frozen=True)
class Dense:
    """Frames that are `rate` apart, from a random start or from one of several evenly spaced starts.

    Attributes:
        frames: how many frames come out.
        rate: distance between them.
        view: number of the start, from 0; None draws it. A single view reads the middle of the clip.
        views: number of starts; the first view begins with the clip, the last one ends with it.
    """

    frames: Count
    rate: int = 4
    view: int | None = None
    views: Count = 1

    def __post_init__(self) -> None:
        check_counts(frames=self.frames, rate=self.rate)
        check_view(self.view or 0, self.views)

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers of a clip: (frames,) int64."""
        # The window counts a full step after its last frame, as in the originals.
        room = max(length - self.frames * self.rate, 0)
        if self.view is None:
            start = int(rng.integers(room + 1))
        elif self.views == 1:
            start = room // 2
        else:
            start = int(self.view * room / (self.views - 1))
        return fill(np.arange(start, length, self.rate)[: self.frames], self.frames, length)

    def for_tests(self) -> FrameRule:
        """Returns the rule that reads the middle of the clip, if this one draws its start."""
        return self.view_for_tests(0, 1) if self.view is None else self

    def view_for_tests(self, view: int, views: int) -> FrameRule:
        """Returns the rule of one view of several, at evenly spaced starts."""
        return replace(self, view=view, views=views)


@dataclass(frozen=True)
class Stretched:
    """UCF101's training reader: frames from end to end of a window of `frames * rate` frames.

    The originals' linspace counts both ends of the window, so frames are `frames * rate / (frames - 1)`
    apart, rounded down: 4.27 for 16 frames at rate 4, where `Dense` takes every fourth. They test with
    views of `Dense`.

    Attributes:
        frames: how many frames come out.
        rate: frames of the window for each one that comes out.
        pick: a `random` window, the last possible one excluded (training), or the `middle` (validation).
    """

    frames: Count
    rate: int = 4
    pick: Literal["random", "middle"] = "random"

    def __post_init__(self) -> None:
        check_counts(frames=self.frames, rate=self.rate)

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers of a clip: (frames,) int64."""
        window = self.frames * self.rate
        if length <= window:
            found = indices.stretched(0, length, length // self.rate)
            return fill(np.append(found, length - 1)[: self.frames], self.frames, length)
        room = length - window
        start = room // 2 if self.pick == "middle" else int(rng.integers(room))
        return indices.stretched(start, window, self.frames)

    def for_tests(self) -> FrameRule:
        """Returns the rule that reads the window in the middle."""
        return replace(self, pick="middle")

    def view_for_tests(self, view: int, views: int) -> FrameRule:
        """Returns one of several views, which are those of `Dense`."""
        return Dense(self.frames, self.rate, view, views)


@dataclass(frozen=True)
class Ticks(_Picking):
    """Something-Something's and HMDB51's reader of frame folders: equal intervals of whole frames.

    Attributes:
        frames: how many frames come out, one of each interval.
        pick: a `random` frame of each, its `middle` (validation), or view `view` of `views` (testing).
        view: which view, from 0.
        views: how many views there are.
        short: what fills up a clip of fewer frames: `repeat_last`, the last one at the end; or
            `repeat_first`, the first one in front, as the originals do (they put zeros before the frame
            numbers, and zero is the first frame). Views are not filled up: they read frames twice.
    """

    short: Literal["repeat_last", "repeat_first"] = "repeat_last"

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers of a clip: (frames,) int64."""
        if self.pick == "view":
            return indices.tick_view(length, self.frames, self.view, self.views)
        part = length // self.frames
        if part == 0:
            if self.short == "repeat_first":
                return np.maximum(np.arange(length - self.frames, length), 0)
            return fill(np.arange(length), self.frames, length)
        inside = part // 2 if self.pick == "middle" else rng.integers(part, size=self.frames)
        return np.arange(self.frames) * part + inside
