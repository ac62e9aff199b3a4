"""Detection of camera cuts by jumps in hue, saturation and brightness between frames."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

DETECTION_WIDTH = 256  # wider frames are shrunk before they are compared, as PySceneDetect does
_FIXED_POINT = 12  # fractional bits of OpenCV's 8-bit conversion; its rounding decides some cuts


@dataclass(frozen=True)
class ShotRule:
    """Options of the detection.

    Attributes:
        threshold: a frame that differs from the one before by at least this much begins a shot.
        min_frames: fewest frames of a shot; the last shot may be shorter.
    """

    threshold: float = 27.0
    min_frames: int = 15


def hsv(picture: np.ndarray) -> np.ndarray:
    """Converts (H, W, 3) uint8 RGB to (3, H, W) int16: hue 0-180, saturation and value 0-255."""
    red, green, blue = np.moveaxis(picture.astype(np.int32), -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    turn = np.where(
        value == red,
        green - blue,
        np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    half = 1 << (_FIXED_POINT - 1)
    saturation = (spread * _PER_VALUE[value] + half) >> _FIXED_POINT
    hue = (turn * _PER_SPREAD[spread] + half) >> _FIXED_POINT
    # int16: differences of unsigned bytes would wrap around.
    return np.stack([np.where(hue < 0, hue + 180, hue), saturation, value]).astype(np.int16)


def _reciprocals(scale: float) -> np.ndarray:
    """Returns scale / n for n = 0..255 in fixed point, and 0 for n = 0: (256,) int32."""
    # A table in fixed point, as OpenCV converts; a division in floats rounds otherwise.
    table = np.zeros(256, np.int32)
    table[1:] = np.rint(scale * (1 << _FIXED_POINT) / np.arange(1, 256))
    return table


_PER_VALUE = _reciprocals(255.0)
_PER_SPREAD = _reciprocals(180.0 / 6.0)


def content_scores(pictures: Iterable[np.ndarray]) -> Iterator[float]:
    """Yields the difference of each (H, W, 3) uint8 RGB frame from the one before; 0 for the first."""
    before = None
    for picture in pictures:
        now = hsv(picture)
        yield 0.0 if before is None else float(np.abs(now - before).mean(axis=(1, 2)).mean())
        before = now


def find_cuts(scores: Sequence[float], rule: ShotRule) -> list[int]:
    """Returns the numbers of the frames that begin a shot, without frame 0.

    After the first cut, jumps that follow each other too fast are merged into one cut at the last of them,
    once the burst is long enough and has ended (PySceneDetect's default).
    """
    cuts: list[int] = []
    last_jump, burst = 0, None
    for number, score in enumerate(scores):
        jump = score >= rule.threshold
        far = number - last_jump >= rule.min_frames
        last_jump = number if jump else last_jump
        if burst is not None:
            if far and not jump and last_jump - burst >= rule.min_frames:
                cuts.append(last_jump)
                burst = None
        elif jump and far:
            cuts.append(number)
        elif jump and cuts:
            burst = number
    return cuts
