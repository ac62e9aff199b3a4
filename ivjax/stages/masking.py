"""Draws the masks that ivjax/stages/mask.py describes."""

import jax
import jax.numpy as jnp

from ivjax.ops.masking import draw_tube, draw_visible
from ivjax.ops.randomness import exponential
from ivjax.stages.mask import Mask


def draw_mask(
    mask: Mask, keys: jax.Array, frames: int, patches: int, attention: jax.Array | None = None
) -> jax.Array:
    """Visible tokens (B, 1 + n), ascending, the class token 0 first, by one key per sample.

    attention (B, T, L) guides the draw if it is given.
    """
    if mask.kind == "tube":
        return draw_tube(exponential(keys, (patches,)), frames, mask.ratio)
    # With equal weights the weighted draw is a uniform one.
    noise = exponential(keys, (frames, patches))
    return chosen(mask, jnp.ones_like(noise) if attention is None else attention, noise)


def chosen(mask: Mask, weights: jax.Array, noise: jax.Array) -> jax.Array:
    """Visible tokens (B, 1 + n) by weight and Exp(1) noise (B, T, L)."""
    if mask.per == "clip":
        weights, noise = (x.reshape(len(x), 1, -1) for x in (weights, noise))
    return draw_visible(weights, noise, mask.ratio)
