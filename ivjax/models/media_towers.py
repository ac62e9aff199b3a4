"""Two towers that may also hear, and that can read a text beside what they see and hear."""

import abc
from typing import NamedTuple

import jax

from ivjax.models.dual_tower import DualTower
from ivjax.models.sizes import Compared
from ivjax.ops.cut import Params


class MediumFeatures(NamedTuple):
    """What towers make of clips, of their sound, or of both."""

    embedding: jax.Array  # (B, out), not normalised
    tokens: jax.Array  # (B, n, C), which texts look at


class MediaTowers(DualTower, abc.ABC):
    """A pair of towers with more than one medium, or with a judge of pairs. Parameters are passed in."""

    @property
    @abc.abstractmethod
    def media(self) -> tuple[Compared, ...]:
        """The media that have an embedding."""

    @property
    @abc.abstractmethod
    def judged(self) -> tuple[Compared, ...]:
        """The media that it can judge a text beside."""

    @property
    @abc.abstractmethod
    def sound_shape(self) -> tuple[int, int] | None:
        """Frames and bins of a sound's filter bank; None if it hears nothing."""

    @abc.abstractmethod
    def features(
        self, params: Params, medium: Compared, video: jax.Array | None, sound: jax.Array | None
    ) -> MediumFeatures:
        """Features of a medium, of clips (B, T, H, W, 3) and filter banks (B, frames, bins), or None."""

    @abc.abstractmethod
    def read(self, params: Params, ids: jax.Array) -> jax.Array:
        """Token ids (B, L) -> states (B, L, C) of texts before they look at anything."""

    @abc.abstractmethod
    def judge(
        self, params: Params, states: jax.Array, ids: jax.Array, seen: jax.Array, medium: Compared = "video"
    ) -> jax.Array:
        """Whether texts belong to what they look at: logits (B, 2) float32 of no and yes.

        states (B, L, C) are those of `read`, ids (B, L) their tokens. seen (G, n, C) are tokens of a medium:
        B / G texts that follow each other look at one row of it.
        """
