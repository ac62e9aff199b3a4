"""What evals and searches ask of a model: clips and captions as unit vectors of one space."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Encoder(Protocol):
    """Embeds clips and captions. Any number of rows; batching and compilation are its own business."""

    frames: int  # frames of one clip
    image: tuple[int, int]  # their height and width
    width: int  # numbers of one embedding

    def video(self, clips: np.ndarray) -> np.ndarray:
        """(n, T, H, W, 3) uint8 -> (n, D) float32, unit rows."""
        ...

    def tokens(self, clips: np.ndarray) -> np.ndarray:
        """(n, T, H, W, 3) uint8 -> (n, N, C) float32: the last states of all tokens, class token first."""
        ...

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """n captions -> (n, D) float32, unit rows."""
        ...
