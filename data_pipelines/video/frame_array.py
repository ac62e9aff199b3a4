"""Reads frames in memory as a video."""

from collections.abc import Sequence
from types import TracebackType

import av
import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import VideoFacts


class FrameArray:
    """Frames (T, H, W, 3) uint8 in RGB, read by number like a `Video`; `fps` is 0 where it is not known."""

    def __init__(self, frames: np.ndarray, fps: float = 0.0):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise ClipError(
                "wrong shape", f"frames are (T, H, W, 3) uint8, not {frames.shape} {frames.dtype}"
            )
        self._frames = frames
        self._fps = fps

    @property
    def probe(self) -> VideoFacts:
        """The facts about the frames."""
        count, height, width, _ = self._frames.shape
        return VideoFacts(count, self._fps, width, height, audio=False)

    def decode(self, indices: Sequence[int]) -> list[av.VideoFrame]:
        """Returns frames by number; one that is asked for again is copied once."""
        made = {index: self._picture(index) for index in set(indices)}
        return [made[index] for index in indices]

    def _picture(self, index: int) -> av.VideoFrame:
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(self._frames[index]), format="rgb24")

    def __enter__(self) -> "FrameArray":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does nothing: the frames belong to the caller."""
