"""The decoder of captions: words read each other, and queries that were pooled from a clip."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo1.sizes import CaptionDecoderSize
from ivjax.models.layers import dense, gelu, layer_norm
from ivjax.models.stacks import run_blocks
from ivjax.ops.attention import attend
from ivjax.ops.rotary import plain_frequencies, rotate

_BASE = 10_000.0  # of the rotary angles


def _scale_norm(name: str, dtype: Any) -> nn.Module:
    """LayerNorm without a bias."""
    return nn.LayerNorm(epsilon=1e-5, use_bias=False, dtype=dtype, name=name)


class GatedSilu(nn.Module):
    """down(silu(gate) * up), of four times the width; without biases."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, N, C) -> (B, N, C)."""
        width = x.shape[-1]
        up = dense(4 * width, self.dtype, "up", bias=False)(x)
        gate = dense(4 * width, self.dtype, "gate", bias=False)(x)
        return dense(width, self.dtype, "down", bias=False)(nn.silu(gate) * up)


class SharedHeadAttention(nn.Module):
    """Attention whose query heads share one head of keys and values; without biases."""

    heads: int
    causal: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """x (B, N, C), context (B, M, D) -> (B, N, C). If causal, positions turn queries and keys."""
        width = x.shape[-1]
        head = width // self.heads
        q = dense(width, self.dtype, "q", bias=False)(x).reshape(*x.shape[:2], self.heads, head)
        kv = dense(2 * head, self.dtype, "kv", bias=False)(context)[:, :, None]
        k, v = kv[..., :head], kv[..., head:]
        if self.causal:
            frequencies = jnp.asarray(plain_frequencies(head, _BASE), jnp.float32)
            angles = jnp.arange(x.shape[1], dtype=jnp.float32)[None, :, None] * frequencies
            q, k = (rotate(y, jnp.cos(angles), jnp.sin(angles)) for y in (q, k))
        found = attend(q, k, v, causal=self.causal).reshape(x.shape)
        return dense(width, self.dtype, "proj", bias=False)(found)


class CaptionBlock(nn.Module):
    """Words read earlier words, then the clip; each time a gated MLP of the same input is added."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, keep: None, clip: jax.Array) -> jax.Array:
        """Words (B, N, C), the clip's tokens (B, M, C) -> words."""
        for number, (causal, context) in enumerate(((True, None), (False, clip)), 1):
            normed = _scale_norm(f"norm{number}", self.dtype)(x)
            attention = SharedHeadAttention(self.heads, causal, self.dtype, name=f"attn{number}")
            attended = attention(normed, normed if context is None else context)
            x = x + attended + GatedSilu(self.dtype, name=f"mlp{number}")(normed)
        return x


class ClipPool(nn.Module):
    """Learned queries gather the tokens of a clip. Nothing of the queries themselves passes."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, queries: jax.Array, tokens: jax.Array) -> jax.Array:
        """queries (B, Q, C), tokens (B, M, D) -> (B, Q, C)."""
        attention = SharedHeadAttention(self.heads, dtype=self.dtype, name="attn")
        context = _scale_norm("norm_context", self.dtype)(tokens)
        return attention(_scale_norm("norm", self.dtype)(queries), context)


class CaptionDecoder(nn.Module):
    """From the states of a caption's words, and the tokens of its clip, to the word after each."""

    size: CaptionDecoderSize
    vocabulary: int
    compute: Compute

    @nn.compact
    def __call__(self, states: jax.Array, tokens: jax.Array) -> jax.Array:
        """states (B, N, C), tokens of the clip (B, M, D) -> logits (B, N, vocabulary) float32."""
        size, dtype, width = self.size, jnp.dtype(self.compute.dtype), states.shape[-1]
        queries = self.param("queries", nn.initializers.normal(1.0), (size.queries, width)).astype(dtype)
        queries = jnp.broadcast_to(queries, (len(states), *queries.shape))
        clip = ClipPool(size.heads, dtype, name="pool")(queries, tokens)
        clip = layer_norm("norm_pooled", dtype)(clip)
        x = layer_norm("norm_text", dtype)(states)
        block = CaptionBlock(size.heads, dtype, name="blocks")
        x, _ = run_blocks(block, size.depth, x, self.compute, shared=(clip,))
        return WordHead(self.vocabulary, dtype, name="head")(x)


class WordHead(nn.Module):
    """LayerNorm, linear, exact GELU, LayerNorm, linear."""

    vocabulary: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, N, C) -> logits (B, N, vocabulary) float32."""
        hidden = dense(x.shape[-1], self.dtype, "fc1")(layer_norm("norm1", self.dtype)(x))
        hidden = layer_norm("norm2", self.dtype)(gelu(hidden, "erf"))
        return dense(self.vocabulary, self.dtype, "fc2")(hidden).astype(jnp.float32)
