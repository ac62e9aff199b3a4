"""The decoder of single patches: a residual MLP that predicts the noise in a patch, given a token."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo_next.sizes import DiffusionSize
from ivjax.models.layers import dense
from ivjax.models.stacks import run_blocks

_EPSILON = 1e-6  # of the norms
_PERIOD = 10_000.0  # the longest period of a timestep's codes


def time_codes(times: jax.Array, count: int) -> jax.Array:
    """Codes (..., count) of timesteps (...): cosines, then sines."""
    half = count // 2
    angles = times[..., None] * jnp.exp(-math.log(_PERIOD) * jnp.arange(half) / half)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimeEmbed(nn.Module):
    """A timestep as a vector: codes, linear, SiLU, linear."""

    size: DiffusionSize

    @nn.compact
    def __call__(self, times: jax.Array) -> jax.Array:
        """(B, n) -> (B, n, width)."""
        hidden = dense(self.size.width, jnp.float32, "fc1")(time_codes(times, self.size.time_codes))
        return dense(self.size.width, jnp.float32, "fc2")(nn.silu(hidden))


class DiffusionBlock(nn.Module):
    """A residual MLP, shifted, scaled and gated by the condition."""

    @nn.compact
    def __call__(self, x: jax.Array, keep: None, condition: jax.Array) -> jax.Array:
        """x and condition (B, n, W) -> (B, n, W)."""
        width = x.shape[-1]
        shift, scale, gate = jnp.split(_zero_dense(3 * width, "modulation")(nn.silu(condition)), 3, axis=-1)
        normed = nn.LayerNorm(epsilon=_EPSILON, name="norm")(x) * (1 + scale) + shift
        hidden = nn.silu(dense(width, jnp.float32, "fc1")(normed))
        return x + gate * dense(width, jnp.float32, "fc2")(hidden)


class PatchDenoiser(nn.Module):
    """Predicts the noise in noisy patches and where their variance lies; all of it in float32."""

    size: DiffusionSize
    compute: Compute

    @nn.compact
    def __call__(self, patches: jax.Array, times: jax.Array, condition: jax.Array) -> jax.Array:
        """patches (B, n, D), times (B, n), condition (B, n, C) -> (B, n, 2 D) float32."""
        width = self.size.width
        # In float32, as in the originals: late timesteps differ by less than bfloat16 resolves.
        x = dense(width, jnp.float32, "input")(patches.astype(jnp.float32))
        given = TimeEmbed(self.size, name="time")(times.astype(jnp.float32))
        given = given + dense(width, jnp.float32, "condition")(condition.astype(jnp.float32))
        x, _ = run_blocks(DiffusionBlock(name="blocks"), self.size.depth, x, self.compute, shared=(given,))
        shift, scale = jnp.split(_zero_dense(2 * width, "modulation")(nn.silu(given)), 2, axis=-1)
        x = nn.LayerNorm(epsilon=_EPSILON, use_scale=False, use_bias=False)(x) * (1 + scale) + shift
        return _zero_dense(2 * patches.shape[-1], "output")(x)


def _zero_dense(features: int, name: str) -> Any:
    """A linear layer that starts at zero: the first predictions are zero, and blocks pass what they get."""
    return nn.Dense(features, kernel_init=nn.initializers.zeros, dtype=jnp.float32, name=name)
