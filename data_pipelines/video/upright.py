"""Pictures as people see them: phones store frames turned, and say by how much."""

from collections.abc import Sequence
from typing import Protocol

import av
import numpy as np

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.video.decode import VideoFacts, to_rgb


class FrameDecoder(Protocol):
    """Opened pictures that come out of a decoder: a Video, FileVideo, FrameFolder or FrameArray."""

    @property
    def probe(self) -> VideoFacts:
        """Frames, frame rate and stored size."""
        ...

    def decode(self, indices: Sequence[int]) -> list[av.VideoFrame]:
        """Returns frames by number."""
        ...


def upright(pictures: Sequence[av.VideoFrame], box: Box | None, size: tuple[int, int] | None) -> np.ndarray:
    """Returns decoded frames upright: (n, H, W, 3) uint8; `box` and `size` are of upright pictures."""
    turns = _quarter_turns(pictures[0])
    stored = size if size is None or turns % 2 == 0 else size[::-1]
    if box is not None:
        width, height = upright_size(pictures[0])
        for _ in range(turns):
            box = Box(height - box.y - box.height, box.x, box.height, box.width)
            width, height = height, width
    # Turned after scaling: there are far fewer pixels to move then, hence the size in the stored orientation.
    return np.ascontiguousarray(np.rot90(to_rgb(pictures, box, stored), turns, axes=(1, 2)))


def upright_size(picture: av.VideoFrame) -> tuple[int, int]:
    """Returns width and height of a decoded frame when it stands upright."""
    sides = (picture.width, picture.height)
    return sides[::-1] if _quarter_turns(picture) % 2 else sides


def _quarter_turns(picture: av.VideoFrame) -> int:
    return picture.rotation // 90 % 4


class UprightVideo:
    """A ClipVideo of whatever decodes frames: its pictures stand upright."""

    def __init__(self, video: FrameDecoder):
        self._video = video
        # The file's header does not say it; the first frame does.
        width, height = upright_size(video.decode([0])[0])
        self._facts = video.probe._replace(width=width, height=height)

    @property
    def probe(self) -> VideoFacts:
        """The facts about the video, of upright pictures."""
        return self._facts

    def read(
        self, indices: Sequence[int] | np.ndarray, box: Box | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Returns frames by number: (n, H, W, 3) uint8; see ClipVideo."""
        return upright(self._video.decode([int(index) for index in indices]), box, size)
