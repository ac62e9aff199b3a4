"""Which patches of a clip an encoder does not see while it is trained."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.ops.masking import draw_tube, draw_visible, visible_count
from ivjax.ops.randomness import exponential


@dataclass(frozen=True)
class Mask:
    """Which patches the student does not see: the share `ratio` of every frame, or of the whole clip.

    attention: patches that the clip teacher looks at tend to stay visible. random: every patch alike.
    tube: the same patches in every frame.
    """

    kind: Literal["attention", "random", "tube"] = "attention"
    ratio: float = 0.8
    per: Literal["frame", "clip"] = "frame"

    def visible(self, frames: int, patches: int) -> int:
        """Tokens that stay visible of `frames` frames of `patches` patches, class token included."""
        if self.per == "clip":
            return 1 + visible_count(frames * patches, self.ratio)
        return 1 + frames * visible_count(patches, self.ratio)

    def draw(self, keys: jax.Array, frames: int, patches: int, attention: jax.Array | None) -> jax.Array:
        """Visible tokens (B, 1 + n), ascending, by one key per sample; attention (B, T, L) or None."""
        if self.kind == "tube":
            return draw_tube(exponential(keys, (patches,)), frames, self.ratio)
        noise = exponential(keys, (frames, patches))
        weights = jnp.ones_like(noise) if attention is None else attention
        return self.chosen(weights, noise)

    def chosen(self, weights: jax.Array, noise: jax.Array) -> jax.Array:
        """Visible tokens (B, 1 + n) by weight and Exp(1) noise (B, T, L)."""
        if self.per == "clip":
            weights, noise = (x.reshape(len(x), 1, -1) for x in (weights, noise))
        return draw_visible(weights, noise, self.ratio)

    def check(self) -> None:
        """Raises if there is no such mask."""
        if not 0.0 <= self.ratio < 1.0:
            raise UserError(f"stage.mask.ratio is {self.ratio}; it must be at least 0 and below 1")
        if self.kind == "tube" and self.per == "clip":
            raise UserError(
                "stage.mask.kind=tube hides the same patches of all frames; set stage.mask.per=frame"
            )
