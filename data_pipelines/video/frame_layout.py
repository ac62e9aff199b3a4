"""Decoded frames as bytes, and back: how the cache of decoded clips stores them."""

from typing import NamedTuple

import av
import numpy as np

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.video.decode import to_rgb


class FrameLayout(NamedTuple):
    """The size, pixel format and colours of a frame whose planes are stored one after the other.

    Attributes:
        width: pixels of a row.
        height: pixels of a column.
        format: FFmpeg's name of the pixel format.
        colorspace: FFmpeg's number of the matrix to RGB.
        color_range: FFmpeg's number of the range, limited or full.
    """

    width: int
    height: int
    format: str
    colorspace: int
    color_range: int

    @classmethod
    def of_frame(cls, frame: av.VideoFrame) -> "FrameLayout":
        """Returns the layout of a decoded frame."""
        return cls(
            frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range)
        )

    @property
    def bytes(self) -> int:
        """Bytes of one frame: all planes, rows with their padding."""
        return sum(plane.buffer_size for plane in self._empty().planes)

    def write(self, frame: av.VideoFrame, target: np.ndarray) -> None:
        """Copies the planes of a frame to `target` (bytes,) uint8."""
        start = 0
        for plane, source in zip(self._empty().planes, frame.planes, strict=True):
            # A decoder pads rows more than a new frame does, so rows are copied and not the plane.
            rows = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)
            room = target[start : start + plane.buffer_size].reshape(-1, plane.line_size)
            width, height = min(source.line_size, plane.line_size), min(len(rows), len(room))
            room[:height, :width] = rows[:height, :width]
            start += plane.buffer_size

    def frame(self, stored: np.ndarray) -> av.VideoFrame:
        """Returns the frame whose planes are in `stored` (bytes,) uint8."""
        frame = self._empty()
        frame.colorspace, frame.color_range = self.colorspace, self.color_range
        start = 0
        for plane in frame.planes:
            plane.update(stored[start : start + plane.buffer_size])
            start += plane.buffer_size
        return frame

    def _empty(self) -> av.VideoFrame:
        return av.VideoFrame(self.width, self.height, self.format)


def survives(frame: av.VideoFrame, layout: FrameLayout) -> bool:
    """Whether a frame gives the same pixels after it was stored and restored."""
    # PyAV does not expose every property of a frame. Should a hidden one matter to a filter, as the place
    # of chroma samples might, its clips are decoded at each visit.
    stored = np.zeros(layout.bytes, np.uint8)
    box = Box(1, 1, max(frame.width - 2, 1), max(frame.height - 2, 1))
    size = (frame.height // 2 + 1, frame.width // 2 + 1)
    try:
        layout.write(frame, stored)
        same = np.array_equal(to_rgb([frame], box, size), to_rgb([layout.frame(stored)], box, size))
    except (ValueError, av.FFmpegError):  # planes that have no rows of bytes, such as palettes
        return False
    return same
