"""Protocols of the models of evals and searches: clips and texts as vectors."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

T = TypeVar("T")


def in_batches(rows: Iterator[T], count: int) -> Iterator[list[T]]:
    """Yields `count` rows at a time; the last ones may be fewer."""
    while some := list(itertools.islice(rows, count)):
        yield some


class ClipEncoder(Protocol):
    """Makes a vector of a clip, for any number of clips; batching and compilation are its own business.

    Attributes:
        frames: frames of one clip.
        image: their height and width.
        width: numbers of one vector.
    """

    frames: int
    image: tuple[int, int]
    width: int

    def video(self, clips: np.ndarray) -> np.ndarray:
        """Returns (n, D) float32 for clips (n, T, H, W, 3) uint8."""
        ...


class TokenEncoder(ClipEncoder, Protocol):
    """A ClipEncoder that can also give the states of all tokens."""

    @property
    def feature(self) -> str:
        """The kind of vector: an `embedding` beside texts, or what a tower `pooled`, or its `mean` patch."""
        ...

    def tokens(self, clips: np.ndarray) -> np.ndarray:
        """Returns the last states of all tokens (n, N, C) float32, class tokens first."""
        ...

    def video_and_tokens(self, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `video` and `tokens` return, for the price of one of them."""
        ...


class PairEncoder(TokenEncoder, Protocol):
    """Embeds clips and texts in one space: rows of `video` and of `text` have unit length."""

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """Returns (n, D) float32 for n texts."""
        ...
