"""Layers of ModernBERT: pre-norm, rotary, without biases; most of them see the neighbourhood alone."""

from dataclasses import dataclass
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.layers import KERNEL_STD, QueryKeyValue, dense, gelu
from ivjax.models.modernbert.sizes import ModernBertSize
from ivjax.models.stacks import checkpointed, enter_block
from ivjax.ops.attention import attend
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain
from ivjax.ops.rotary import plain_frequencies, rotate

EPSILON = 1e-5  # of all norms


class GatedGelu(nn.Module):
    """down(gelu(first) * second), the exact GELU; both first products in one kernel (2, C, hidden)."""

    hidden: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, N, C) -> (B, N, C)."""
        width = x.shape[-1]
        gates = _Gates(self.hidden, self.dtype, name="gates")(x)
        return dense(width, self.dtype, "down", bias=False)(gelu(gates[0], "erf") * gates[1])


class _Gates(nn.Module):
    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        shape = (2, x.shape[-1], self.hidden)
        kernel = self.param("kernel", nn.initializers.normal(KERNEL_STD), shape).astype(self.dtype)
        return x @ kernel[0], x @ kernel[1]


class ModernBertBlock(nn.Module):
    """One layer; with a `window` a token sees fewer than so many places to either side."""

    size: ModernBertSize
    base: float
    window: int | None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, N, C) -> (B, N, C)."""
        x, size = enter_block(x), self.size
        x = x + self._attended(self._norm("norm1")(x))
        return x + GatedGelu(size.mlp_width, self.dtype, name="mlp")(self._norm("norm2")(x))

    def _attended(self, x: jax.Array) -> jax.Array:
        return _RotaryAttention(self.size.heads, self.base, self.window, self.dtype, name="attn")(x)

    def _norm(self, name: str) -> nn.Module:
        return nn.LayerNorm(epsilon=EPSILON, use_bias=False, dtype=self.dtype, name=name)


class _RotaryAttention(nn.Module):
    heads: int
    base: float
    window: int | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        q, k, v = (y.reshape(*y.shape[:2], self.heads, -1) for y in QueryKeyValue(self.dtype, name="qkv")(x))
        frequencies = jnp.asarray(plain_frequencies(q.shape[-1], self.base), jnp.float32)
        angles = jnp.arange(x.shape[1], dtype=jnp.float32)[None, :, None] * frequencies
        q, k = (rotate(y, jnp.cos(angles), jnp.sin(angles)) for y in (q, k))
        q = constrain(q, "batch", "tokens", "heads", None)
        k, v = constrain(k, "batch", None, "heads", None), constrain(v, "batch", None, "heads", None)
        out = attend(q, k, v, window=self.window).reshape(x.shape)
        return dense(x.shape[-1], self.dtype, "proj", bias=False)(out)


class ModernBertLayers(nn.Module):
    """The layers one after the other, their parameters stacked on a leading axis."""

    size: ModernBertSize
    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, N, C) -> (B, N, C), positions counted from 0."""
        size = self.size
        if self.is_initializing():
            drawn = nn.scan(
                lambda block, x, _: (block(x), None),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=size.depth,
            )
            # Local and global layers have the same parameters.
            return cast(jax.Array, drawn(self._block(True, name="blocks"), x, None)[0])
        stacked = self.variables["params"]["blocks"]
        # Not scanned: layers differ in what their attention computes, and are few.
        for number, is_global in enumerate(size.global_layers):
            apply = self._block(is_global, parent=None).apply
            run = checkpointed(lambda p, x, apply=apply: apply({"params": p}, x), self.compute.remat, False)
            x = run(jax.tree.map(lambda leaf, i=number: leaf[i], stacked), x)
        return x

    def _block(self, is_global: bool, **place: Any) -> ModernBertBlock:
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        base = size.global_base if is_global else size.local_base
        return ModernBertBlock(size, base, None if is_global else size.reach + 1, dtype, **place)


@dataclass(frozen=True)
class ModernBertModel:
    """The layers as a model: a frozen size and a Flax module; parameters are passed in.

    Attributes:
        size: its size.
        module: the module whose parameters `init` draws.
    """

    size: ModernBertSize
    module: ModernBertLayers

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        return cast(Params, self.module.init(key, jnp.zeros((1, 1, self.size.width)))["params"])


def build(size: ModernBertSize, compute: Compute) -> ModernBertModel:
    """Returns the layers of a size; see ModernBertSize.build."""
    return ModernBertModel(size, ModernBertLayers(size, compute))
