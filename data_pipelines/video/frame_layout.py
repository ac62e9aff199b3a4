"""Decoded frames as bytes, and back: how the cache of decoded clips stores them."""

import threading
from typing import Any, NamedTuple

import av
import numpy as np

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.video.decode import apply_graph, rgb_graph, to_rgb

_MOST_GRAPHS = 64  # of a thread; crops of training are mostly new ones, those of tests are few


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
            buffer: Any = source  # a buffer at run time, though PyAV's types do not say so
            rows = np.frombuffer(buffer, np.uint8).reshape(-1, source.line_size)
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
            data: Any = stored[start : start + plane.buffer_size]  # any buffer will do, and needs no copy
            plane.update(data)
            start += plane.buffer_size
        return frame

    def _empty(self) -> av.VideoFrame:
        return av.VideoFrame(self.width, self.height, self.format)


class RecentGraphs(threading.local):
    """The filter graphs that a thread has used last. Making one takes as long as filtering four frames."""

    def __init__(self) -> None:
        self._known: dict[object, av.filter.Graph] = {}

    def to_rgb(
        self,
        layout: FrameLayout,
        stored: np.ndarray,
        wanted: np.ndarray,
        box: Box | None,
        size: tuple[int, int] | None,
    ) -> np.ndarray:
        """Returns frames of `stored` (frames, bytes) by number, as `decode.to_rgb` gives them."""
        frames = {int(number): layout.frame(stored[number]) for number in wanted}
        key = (layout, box, size)
        graph = self._known.pop(key, None) or rgb_graph(next(iter(frames.values())), box, size)
        pictures = apply_graph(graph, [frames[int(number)] for number in wanted])
        # Not before: one that has failed may still hold a frame, which would come out at its next use.
        self._known[key] = graph  # the last one is the most recently used
        if len(self._known) > _MOST_GRAPHS:
            self._known.pop(next(iter(self._known)))
        return pictures


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
