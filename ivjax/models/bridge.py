"""The protocol of bridges, which make a language model's tokens of what a vision tower sees."""

import abc
from typing import NamedTuple

import jax

from ivjax.models.sizes import Grid
from ivjax.ops.cut import Params


class Question(NamedTuple):
    """What is asked about each video, in the words of a bridge that reads texts.

    Attributes:
        ids: (V, L) int32.
        mask: (V, L), true where there is a word.
    """

    ids: jax.Array
    mask: jax.Array


class Bridge(abc.ABC):
    """Makes visual tokens of what a vision tower sees. Parameters are passed in."""

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""

    @abc.abstractmethod
    def project(
        self,
        params: Params,
        tokens: jax.Array,
        grid: Grid,
        question: Question | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns visual tokens (V, n, out) of V videos.

        Args:
            params: the bridge's parameters.
            tokens: (V, S, k + N, C), those of S segments of each video: k class tokens, then the N patches.
            grid: the patch grid of a segment.
            question: what is asked about the videos; None for a bridge that does not read it.
            keys: (V,), those of the videos' dropout, given in training alone.
        """
