"""The protocol of a clip's opened pictures, importable without any decoder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ivjax.data_pipelines.augment.geometry import Box

if TYPE_CHECKING:
    from ivjax.data_pipelines.video.decode import VideoFacts


class ClipVideo(Protocol):
    """The opened pictures of a clip."""

    @property
    def probe(self) -> "VideoFacts":
        """Frames, frame rate and size."""
        ...

    def read(
        self, indices: Sequence[int] | np.ndarray, box: Box | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Frames by number, cropped to `box` and resized to `size` (height, width): (n, H, W, 3) uint8."""
        ...
