"""UniFormerV2's blocks: within a time, between neighbouring times, and over all of a clip."""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.models.batch_norm import BatchNorm
from ivjax.models.layers import (
    KERNEL_STD,
    Attention,
    CrossQueryKeyValue,
    Mlp,
    dense,
    gelu,
    layer_norm,
    scaled_branch,
)
from ivjax.models.stacks import enter_block
from ivjax.ops.attention import attend_with_weights


class LocalRelation(nn.Module):
    """Each patch with the same place at the times before and after: batch norm, then three convolutions."""

    width: int
    times: int
    training: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Patches (B * T, L, C) -> what is added to them."""
        out = x.shape[-1]
        x = BatchNorm(name="norm")(x, self.training).astype(self.dtype)
        x = dense(self.width, self.dtype, "down")(x)
        x = _OverTime(self.times, self.dtype, name="over_time")(x)
        # Zero at first: the tower starts as CLIP's.
        return nn.Dense(out, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="up")(x)


class _OverTime(nn.Module):
    """A convolution over three times, of every channel for itself; beyond the clip there are zeros."""

    times: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B * T, L, C) -> the same."""
        width = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(3**-0.5), (3, width))
        bias = self.param("bias", nn.initializers.zeros, (width,)).astype(self.dtype)
        clips = x.reshape(-1, self.times, *x.shape[1:])
        return (_with_neighbours(clips, kernel) + bias).reshape(x.shape)


class _OverPlaces(nn.Module):
    """A convolution over three times, rows and columns, of every channel for itself, as `_OverTime`."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, T, H, W, C) -> the same."""
        width = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(KERNEL_STD), (3, 3, 3, 1, width))
        bias = self.param("bias", nn.initializers.zeros, (width,)).astype(self.dtype)
        return _with_neighbours(x, kernel[:, :, :, 0]) + bias


# Without it the gradient of the kernel would keep a copy of x for each neighbour.
@jax.checkpoint
def _with_neighbours(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Sums of x (B, ..., C) and its neighbours along the axes that float32 kernel (3, ..., 3, C) has."""
    around = kernel.ndim - 1
    padded = jnp.pad(x, [(0, 0)] + [(1, 1)] * around + [(0, 0)] * (x.ndim - 1 - around))
    total = jnp.zeros(x.shape, jnp.float32)
    # Products of shifted copies: a grouped convolution of one channel each takes 15 times as long on CPUs.
    for taps in itertools.product(range(3), repeat=around):
        cut = tuple(slice(tap, tap + size) for tap, size in zip(taps, x.shape[1:], strict=False))
        total = total + padded[(slice(None), *cut)].astype(jnp.float32) * kernel[taps]
    return total.astype(x.dtype)


class UniFormerBlock(nn.Module):
    """CLIP's block on the tokens of one time, and local modules before its attention and before its MLP."""

    heads: int
    times: int
    local: int = 0
    local_width: int = 1
    training: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array | None = None) -> jax.Array:
        """(B * T, 1 + L, C) -> the same. `keep` (2, B * T) multiplies the two branches."""
        x, width = enter_block(x), x.shape[-1]
        attention = Attention(self.heads, self.dtype, qk_norm=False, bias=True, name="attn")
        mlp = Mlp(4 * width, width, "quick", self.dtype, name="mlp")
        x = self._related(x, 1)
        x = x + scaled_branch(attention(layer_norm("norm1", self.dtype)(x)), keep, 0)
        x = self._related(x, 2)
        return x + scaled_branch(mlp(layer_norm("norm2", self.dtype)(x)), keep, 1)

    def _related(self, x: jax.Array, number: int) -> jax.Array:
        if number > self.local:
            return x
        relation = LocalRelation(
            self.local_width, self.times, self.training, self.dtype, name=f"local{number}"
        )
        # The class token has no neighbours.
        return x.at[:, 1:].add(relation(x[:, 1:]))


class GlobalBlock(nn.Module):
    """The video token reads the tokens of all times, as one of the blocks has left them."""

    heads: int
    mlp_width: int
    side: int
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        tokens: jax.Array,
        keep: jax.Array | None = None,
        kept: jax.Array | None = None,
    ) -> jax.Array:
        """query (B, 1, C), tokens (B, T, 1 + L, C), keep (2, B), kept (B, mlp_width) -> query."""
        width, dtype = query.shape[-1], self.dtype
        cross = CrossQueryKeyValue(self.heads, dtype, name="attn")
        context = layer_norm("norm3", dtype)(self._placed(tokens).reshape(len(tokens), -1, width))
        found, _ = attend_with_weights(*cross(layer_norm("norm1", dtype)(query), context))
        ends = nn.initializers.zeros
        # Both branches end in zeros at first: the video token stays as it is until they have learned.
        attended = nn.Dense(width, kernel_init=ends, dtype=dtype, name="proj")(found.reshape(query.shape))
        query = query + scaled_branch(attended, keep, 0)
        hidden = gelu(dense(self.mlp_width, dtype, "fc1")(layer_norm("norm2", dtype)(query)), "quick")
        if kept is not None and self.dropout:
            hidden = jnp.where(kept[:, None], hidden / (1 - self.dropout), 0)
        return query + scaled_branch(
            nn.Dense(width, kernel_init=ends, dtype=dtype, name="fc2")(hidden), keep, 1
        )

    def _placed(self, tokens: jax.Array) -> jax.Array:
        """Tokens (B, T, 1 + L, C) with places: a convolution of patches over their neighbours in the clip."""
        patches = tokens[:, :, 1:]
        volume = patches.reshape(*patches.shape[:2], self.side, self.side, -1)
        placed = _OverPlaces(self.dtype, name="places")(volume.astype(self.dtype))
        return tokens.at[:, :, 1:].add(placed.reshape(patches.shape))
