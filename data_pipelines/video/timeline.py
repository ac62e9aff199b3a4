"""Times of frames: which rate a video has, and which of its frames stands for which moment.

Clips have a constant rate. A source whose frames come at uneven times is read as FFmpeg's filter `fps` does:
each frame is moved to the nearest beat of a constant rate, and stands until the next one. So no frame is off
by more than half a beat.
"""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from ivjax.data_pipelines.store.records import ClipError

Picture = TypeVar("Picture")

UNKNOWN_FPS = Fraction(25)  # for files that do not say
VARIABLE_FPS = Fraction(30)  # the most for uneven times: their two closest frames may be a millisecond apart
_ROUNDING = Fraction(1, 20)  # of a rate that two time stamps give
_SLACK = Fraction(1, 4)  # of a beat: time stamps are rounded
_MOST_BEATS = 20_000_000  # a week; time stamps that jump further are damaged


class Shown(NamedTuple, Generic[Picture]):
    """A frame, and the seconds of the video between which it is shown."""

    picture: Picture
    begins: Fraction
    ends: Fraction


class FrameRate(NamedTuple):
    """Frames per second, 0 if unknown, and whether the frames lie on the beats of this rate."""

    fps: Fraction
    is_constant: bool


def rate_of(times: np.ndarray, base: Fraction, average: Fraction, finest: Fraction) -> FrameRate:
    """Returns the rate of frames whose sorted times are (n,) int64 in units of `base` seconds.

    The file states an `average` rate, and the `finest` one whose beats all its frames are said to lie on; 0
    if it does not. A constant rate is the average. Uneven times have the rate of the two closest frames.
    """
    if len(times) < 3:
        return FrameRate(average, True)
    steps = times - times[0]
    mean = Fraction(len(times) - 1, int(steps[-1])) / base
    for fps in (average, mean.limit_denominator(1001)):
        # In beats. Floats are exact enough for a quarter of one.
        if fps and np.abs(steps * float(base * fps) - np.arange(len(times))).max() <= _SLACK:
            return FrameRate(fps, True)
    fps = (1 / (int(np.diff(steps).min()) * base)).limit_denominator(1001)
    if finest and abs(fps / finest - 1) < _ROUNDING:
        fps = finest  # such as 30000/1001 where times are whole milliseconds
    elif fps > VARIABLE_FPS:
        fps = VARIABLE_FPS
    if steps[-1] * base * fps > _MOST_BEATS:
        raise ClipError("wrong times", f"its frames lie over {float(steps[-1] * base):.0f} s")
    return FrameRate(fps, False)


def steady(frames: Iterable[Shown[Picture]], fps: Fraction) -> Iterator[Picture]:
    """Yields frames at a constant rate, whose times are called beats.

    Each frame goes to the nearest beat and is repeated until the next frame. Of several frames at one beat
    the last is taken. At the rate of the source, every frame comes once.
    """
    origin, held, beat = Fraction(0), None, 0
    for shown in frames:
        origin = shown.begins if held is None else origin
        place = nearest((shown.begins - origin) * fps)
        while held is not None and beat < place:
            yield held.picture
            beat += 1
        held = shown
    if held is not None:
        for _ in range(_beats((held.begins - origin) * fps, (held.ends - origin) * fps) - beat):
            yield held.picture


def _beats(begins: Fraction, ends: Fraction) -> int:
    """Returns the number of beats up to the end; `begins` and `ends` of the last frame are in beats.

    Less than a quarter of a beat is dropped, unless the last frame is at its beat.
    """
    place = nearest(begins)
    at_its_beat = begins >= place - _SLACK
    return max(math.ceil(ends - _SLACK), place + 1 if at_its_beat else 1)


def nearest(value: Fraction) -> int:
    """Returns the nearest whole number; of two, the upper one."""
    return math.floor(value + Fraction(1, 2))
