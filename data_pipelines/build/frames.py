"""Frames between decoder and encoder: smaller, upright, with a measure of motion."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.timeline import Shown, nearest

# Neighbouring frames of a slow scene hardly differ; a quarter of a second shows that something moves.
_SAMPLES_PER_SECOND = 4  # of motion


def fitted(width: int, height: int, pixel_shape: Fraction, short_side: int) -> tuple[int, int]:
    """Returns even width and height for square pixels, the shorter at most `short_side`; never enlarged."""
    across = width * min(pixel_shape, Fraction(1))
    down = height / max(pixel_shape, Fraction(1))
    scale = min(Fraction(short_side) / min(across, down), Fraction(1))
    return _even(across * scale, across), _even(down * scale, down)


def _even(length: Fraction, source: Fraction) -> int:
    """Returns the nearest even number of pixels that is not above the source's."""
    return max(2 * min(nearest(length / 2), math.floor(source / 2)), 2)


def shrunk(
    pictures: Iterable[av.VideoFrame], pixel_shape: Fraction, short_side: int, pixels: str
) -> Iterator[av.VideoFrame]:
    """Yields pictures upright, with square pixels, in one size, and in the encoder's format `pixels`."""
    last, size = None, None
    for picture in pictures:
        # A repeated frame is the same object, and is shrunk once.
        if picture is not last:
            size = size or fitted(picture.width, picture.height, pixel_shape, short_side)
            last, small = picture, _small(picture, *size, pixels)
        yield small


def _small(picture: av.VideoFrame, width: int, height: int, pixels: str) -> av.VideoFrame:
    quarter_turns = picture.rotation // 90
    # Shrunk before it is turned, when there are fewer pixels to move.
    small = picture.reformat(
        width, height, pixels, dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
    )
    if not quarter_turns % 4:
        return small
    upright = np.rot90(small.to_ndarray(format="rgb24"), quarter_turns)
    turned = np.ascontiguousarray(upright, np.uint8)
    return av.VideoFrame.from_ndarray(turned, "rgb24").reformat(format=pixels)


class Watch:
    """Measures the frames that pass through it: duration; number, size and motion of the pictures.

    `motion` is the mean absolute difference in luma between samples a quarter of a second apart.
    """

    def __init__(self, fps: Fraction, max_seconds: float | None = None):
        self._step = max(round(fps / _SAMPLES_PER_SECOND), 1)
        self._max_seconds = max_seconds
        self._sample: np.ndarray | None = None
        self._differences: list[float] = []
        self.ends = Fraction(0)
        self.frames = self.width = self.height = 0

    def times(self, frames: Iterable[Shown]) -> Iterator[Shown]:
        """Yields the same frames; raises ClipError as soon as they last too long."""
        origin = None
        for shown in frames:
            origin = shown.begins if origin is None else origin
            if self._max_seconds is not None and shown.begins - origin > self._max_seconds:
                raise ClipError("too long", f"it lasts longer than {self._max_seconds:g} s")
            self.ends = shown.ends
            yield shown

    def pictures(self, pictures: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yields the same pictures."""
        picture = None
        for picture in pictures:
            if self.frames % self._step == 0:
                self._compare(_luma(picture))
            self.frames += 1
            yield picture
        if picture is not None:
            self.width, self.height = picture.width, picture.height
            if not self._differences:
                self._compare(_luma(picture))

    @property
    def motion(self) -> float:
        """Mean motion; a clip shorter than a quarter of a second compares its first and last picture."""
        return float(np.mean(self._differences)) if self._differences else 0.0

    def _compare(self, luma: np.ndarray) -> None:
        if self._sample is not None:
            self._differences.append(float(np.abs(luma - self._sample).mean()))
        self._sample = luma


def _luma(picture: av.VideoFrame) -> np.ndarray:
    """Returns the luma: (H, W) int16."""
    plane = picture.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    # Cut to the picture: decoders pad their rows, with whatever lies there.
    return rows[: picture.height, : picture.width].astype(np.int16)
