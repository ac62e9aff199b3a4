"""What evals and searches ask of a model: clips and captions as unit vectors of one space."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

T = TypeVar("T")


def in_batches(rows: Iterator[T], count: int) -> Iterator[list[T]]:
    """`count` rows at a time; the last ones may be fewer."""
    while some := list(itertools.islice(rows, count)):
        yield some


class ClipEncoder(Protocol):
    """Makes a vector of a clip. Any number of rows; batching and compilation are its own business."""

    frames: int  # frames of one clip
    image: tuple[int, int]  # their height and width
    width: int  # numbers of one vector

    def video(self, clips: np.ndarray) -> np.ndarray:
        """(n, T, H, W, 3) uint8 -> (n, D) float32."""
        ...


class Encoder(ClipEncoder, Protocol):
    """Embeds clips and captions in one space: rows of `video` and of `text` are of unit length."""

    def tokens(self, clips: np.ndarray) -> np.ndarray:
        """(n, T, H, W, 3) uint8 -> (n, N, C) float32: the last states of all tokens, class token first."""
        ...

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """n captions -> (n, D) float32, unit rows."""
        ...
