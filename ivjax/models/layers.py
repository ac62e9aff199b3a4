"""Layers that our transformers share. Parameters are float32; `dtype` is what they compute in."""

from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ivjax.models.stacks import enter_block
from ivjax.ops.attention import attend, attend_with_weights
from ivjax.ops.layout import constrain

Gelu = Literal["erf", "tanh", "quick"]  # the exact function or one of its approximations

# The originals draw truncated normals, but cut them at 2, which is 100 deviations away.
KERNEL_STD = 0.02
_normal = nn.initializers.normal(KERNEL_STD)


def dense(features: int | tuple[int, ...], dtype: Any, name: str, bias: bool = True) -> nn.Module:
    """A linear layer that starts with an N(0, 0.02) kernel and a bias of zero."""
    return nn.DenseGeneral(features, use_bias=bias, dtype=dtype, kernel_init=_normal, name=name)


def gelu(x: jax.Array, kind: Gelu) -> jax.Array:
    """GELU: `erf` exact, `tanh` the approximation of the originals' fused kernels, `quick` that of CLIP."""
    if kind == "quick":
        return x * jax.nn.sigmoid(1.702 * x)
    return jax.nn.gelu(x, approximate=kind == "tanh")


class RMSNorm(nn.Module):
    """x * scale / sqrt(mean(x^2) + eps) over the last axis; statistics and scaling in float32."""

    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        # A mean of squares over thousands of channels is too long a sum for bfloat16.
        wide = x.astype(jnp.float32)
        # The scale multiplies before the cast. So do the fused kernels that the released weights were
        # trained with; the originals' plain norm casts first.
        inverse = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.epsilon)
        return (wide * inverse * scale).astype(self.dtype)


class QueryKeyValue(nn.Module):
    """The three projections of self-attention in one kernel (3, C, C), with a bias (3, C) if asked for."""

    dtype: Any = jnp.float32
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(B, N, C) -> three times (B, N, C)."""
        width = x.shape[-1]
        kernel = self.param("kernel", _normal, (3, width, width)).astype(self.dtype)
        # Three products: one fused product would be sliced, and its gradient padded and summed.
        products = x @ kernel[0], x @ kernel[1], x @ kernel[2]
        if not self.bias:
            return products
        bias = self.param("bias", nn.initializers.zeros, (3, width)).astype(self.dtype)
        return products[0] + bias[0], products[1] + bias[1], products[2] + bias[2]


class CrossQueryKeyValue(nn.Module):
    """Queries of some tokens, keys and values of others, split into heads; parameters of QueryKeyValue."""

    heads: int
    dtype: Any = jnp.float32
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x (B, N, C), context (B, M, C) -> q (B, N, H, D), k and v (B, M, H, D)."""
        width = x.shape[-1]
        kernel = self.param("kernel", _normal, (3, width, width)).astype(self.dtype)
        products = x @ kernel[0], context @ kernel[1], context @ kernel[2]
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (3, width)).astype(self.dtype)
            products = products[0] + bias[0], products[1] + bias[1], products[2] + bias[2]
        q, k, v = (y.reshape(*y.shape[:2], self.heads, -1) for y in products)
        return q, k, v


class LayerScale(nn.Module):
    """Multiplies a branch by a learned vector, and by each sample's drop-path factor, in float32."""

    start: float

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array | None) -> jax.Array:
        """x (B, N, C), keep (B,) or None -> (B, N, C)."""
        gamma = self.param("gamma", nn.initializers.constant(self.start), (x.shape[-1],))
        # gamma starts at 1e-5 and moves by less than bfloat16 resolves, so it is applied in float32.
        factor = gamma if keep is None else gamma * keep[:, None, None]
        return (x.astype(jnp.float32) * factor).astype(x.dtype)


class Attention(nn.Module):
    """Self-attention; RMS QK-norm is over the full width, before the split into heads."""

    heads: int
    dtype: Any = jnp.float32
    qk_norm: bool = True
    bias: bool = False
    causal: bool = False
    epsilon: float = 1e-6  # of the QK-norm

    @nn.compact
    def __call__(self, x: jax.Array, segments: jax.Array | None = None) -> jax.Array:
        """(B, N, C) -> (B, N, C). `segments` (B, N): a token sees those of its own segment alone."""
        width = x.shape[-1]
        q, k, v = QueryKeyValue(self.dtype, self.bias, name="qkv")(x)
        if self.qk_norm:
            q = RMSNorm(self.epsilon, self.dtype, name="q_norm")(q)
            k = RMSNorm(self.epsilon, self.dtype, name="k_norm")(k)
        q, k, v = (y.reshape(*y.shape[:2], self.heads, -1) for y in (q, k, v))
        # Over the context axis queries keep their share of the tokens, and look at all keys and values.
        q = constrain(q, "batch", "tokens", "heads", None)
        k = constrain(k, "batch", None, "heads", None)
        v = constrain(v, "batch", None, "heads", None)
        out = attend(q, k, v, causal=self.causal, q_segments=segments, kv_segments=segments)
        out = out.reshape(x.shape)
        return dense(width, self.dtype, "proj")(out)


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    hidden: int
    out: int
    gelu: Gelu = "erf"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., C) -> (..., out)."""
        y = gelu(dense(self.hidden, self.dtype, "fc1")(x), self.gelu)
        return dense(self.out, self.dtype, "fc2")(y)


def scaled_branch(
    branch: jax.Array, keep: jax.Array | None, which: int, start: float | None = None
) -> jax.Array:
    """A block's branch 0 or 1 (B, N, C) times keep[which] (B,) and, if told where that starts, LayerScale."""
    factor = None if keep is None else keep[which]
    if start is not None:
        return cast(jax.Array, LayerScale(start, name=f"ls{1 + which}")(branch, factor))
    return branch if factor is None else branch * factor[:, None, None].astype(branch.dtype)


class Block(nn.Module):
    """Pre-norm transformer block with drop-path, and LayerScale if it is given where to start."""

    heads: int
    mlp_width: int
    layer_scale: float | None
    gelu: Gelu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, keep: jax.Array | None = None, segments: jax.Array | None = None
    ) -> jax.Array:
        """(B, N, C) -> (B, N, C). `keep` (2, B) multiplies the two branches of each sample; `segments` (B, N)
        are those of Attention."""
        x = enter_block(x)
        attention = Attention(self.heads, self.dtype, name="attn")
        attended = attention(RMSNorm(dtype=self.dtype, name="norm1")(x), segments)
        x = x + scaled_branch(attended, keep, 0, self.layer_scale)
        mlp = Mlp(self.mlp_width, x.shape[-1], self.gelu, self.dtype, name="mlp")
        return x + scaled_branch(mlp(RMSNorm(dtype=self.dtype, name="norm2")(x)), keep, 1, self.layer_scale)


class PatchEmbed(nn.Module):
    """Linear embedding of flattened patches; the kernel keeps its (time, row, column, channel) axes."""

    tubelet: int
    patch: int
    width: int
    bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, patches: jax.Array) -> jax.Array:
        """(B, N, tubelet*patch*patch*3) -> (B, N, width)."""
        shape = (self.tubelet, self.patch, self.patch, 3, self.width)
        # torch starts a convolution's kernel and bias within 1 / sqrt(inputs), and the originals leave it so.
        bound = float(np.prod(shape[:-1])) ** -0.5

        def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        kernel = self.param("kernel", uniform, shape).reshape(-1, self.width).astype(self.dtype)
        embedded = patches.astype(self.dtype) @ kernel
        if not self.bias:
            return embedded
        return embedded + self.param("bias", uniform, (self.width,)).astype(self.dtype)


class AttentionPool(nn.Module):
    """Attention pooling whose one query is the mean token; q, k and v have LayerNorms of their own."""

    heads: int
    out: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(B, N, C) -> pooled (B, out), and how much each token counts, mean of the heads (B, N) float32."""
        batch, _, width = x.shape

        def projected(tokens: jax.Array, name: str) -> jax.Array:
            tokens = layer_norm(f"norm_{name}", self.dtype)(tokens)
            return dense(width, self.dtype, name)(tokens).reshape(batch, -1, self.heads, width // self.heads)

        # The mean of all tokens, the class token among them: so do the originals.
        mean = mean_over(x, axis=1)[:, None]
        # No fused kernel: of one query the weights are small, and they guide the mask of a student.
        pooled, weights = attend_with_weights(projected(mean, "q"), projected(x, "k"), projected(x, "v"))
        return dense(self.out, self.dtype, "proj")(pooled.reshape(batch, width)), weights.mean(1)[:, 0]


def mean_over(x: jax.Array, axis: int) -> jax.Array:
    """The mean, taken in float32, in the dtype of x."""
    # bfloat16 has eight significant bits: a sum of thousands of tokens would stop growing.
    return jnp.mean(x, axis=axis, dtype=jnp.float32).astype(x.dtype)


def layer_norm(name: str, dtype: Any, epsilon: float = 1e-5) -> nn.Module:
    """LayerNorm with scale and bias, statistics in float32."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, name=name)
