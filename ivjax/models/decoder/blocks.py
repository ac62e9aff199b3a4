"""The blocks of a language model: attention with shared heads and rotary positions, gated MLP, LoRA."""

import functools
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.models.decoder.cache import Cache, stored_tokens, with_tokens
from ivjax.models.decoder.sizes import LORA_LAYERS, LanguageSize, Lora, LoraLayer, Rotary
from ivjax.models.layers import KERNEL_STD, RMSNorm
from ivjax.models.stacks import enter_block
from ivjax.ops import rotary
from ivjax.ops.attention import attend
from ivjax.ops.blockwise import Places
from ivjax.ops.cached_attention import attend_to_stored
from ivjax.ops.layout import constrain
from ivjax.ops.randomness import dropout, folded


class Turns(NamedTuple):
    """Cosines and sines (B, L, D / 2) float32 of the angles of L tokens."""

    cosine: jax.Array
    sine: jax.Array


class Text(NamedTuple):
    """Where the tokens of a text stand.

    Attributes:
        turns: of their positions.
        segments: (B, L) int32; a token sees tokens of its own segment alone. None: one text per row.
    """

    turns: Turns
    segments: jax.Array | None = None


class Written(NamedTuple):
    """Where a call writes into a cache.

    Attributes:
        start: the slot of its first token in every row, int32.
        segments: (B, M) of all slots, which tell padding from text.
        layer: the entry of the layer at hand, int32.
    """

    start: jax.Array
    segments: jax.Array
    layer: jax.Array | int = 0


def turns(size: Rotary, width: int, positions: jax.Array, length: jax.Array | int) -> Turns:
    """Returns the angles of positions (B, L) in texts of `length` tokens, on which some scalings depend.

    The length is that of all rows, or (B, 1, 1) that of each.
    """
    magnitude = 1.0
    frequencies: Any  # of numpy where they are constants
    if size.scaling == "dynamic":
        length = jnp.asarray(length, jnp.float32)
        frequencies = rotary.dynamic_frequencies(width, size.base, size.factor, size.trained, length)
    elif size.scaling == "yarn":
        frequencies = rotary.yarn_frequencies(width, size.base, size.factor, size.trained, *size.ramp)
        magnitude = rotary.yarn_magnitude(size.factor)
    elif size.scaling == "long":
        plain = rotary.plain_frequencies(width, size.base)
        short, long = (plain / jnp.asarray(f) for f in (size.short_factors, size.long_factors))
        frequencies = jnp.where(jnp.asarray(length) > size.trained, long, short)
        magnitude = rotary.long_rope_magnitude(size.limit, size.trained)
    else:
        frequencies = rotary.plain_frequencies(width, size.base)
        if size.scaling == "linear":
            frequencies = frequencies / size.factor
    if size.magnitude is not None:
        magnitude = size.magnitude
    angles = positions.astype(jnp.float32)[..., None] * jnp.asarray(frequencies, jnp.float32)
    return Turns(jnp.cos(angles) * magnitude, jnp.sin(angles) * magnitude)


class Linear(nn.Module):
    """A linear layer, with an addition of low rank where the collection `lora` has its factors.

    The name tells which layer of a block it is.
    """

    features: int
    lora: Lora | None
    dtype: Any
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, drop: jax.Array | None = None) -> jax.Array:
        """(B, ..., C) -> (B, ..., features). `drop` (B,): keys of the addition's dropout, in training."""
        x = x.astype(self.dtype)
        shape = (x.shape[-1], self.features)
        y = x @ self.param("kernel", nn.initializers.normal(KERNEL_STD), shape).astype(self.dtype)
        if self.bias:
            y = y + self.param("bias", nn.initializers.zeros, shape[1:]).astype(self.dtype)
        wanted = self.lora is not None and self.name in self.lora.layers
        # Looked for when traced, so that a model whose factors are merged, or that has none, pays nothing.
        if not wanted or not (self.is_initializing() or self.has_variable("lora", "a")):
            return y
        assert self.lora is not None
        a = self.variable("lora", "a", self._first, (shape[0], self.lora.rank)).value
        b = self.variable("lora", "b", jnp.zeros, (self.lora.rank, shape[1])).value
        return y + added(without_some(x, self.lora, cast(LoraLayer, self.name), drop), a, b, self.lora.scale)

    def _first(self, shape: tuple[int, int]) -> jax.Array:
        # As torch starts a linear layer, and so peft this factor. The other starts at zero: nothing is added.
        bound = shape[0] ** -0.5
        return jax.random.uniform(self.make_rng("params"), shape, jnp.float32, -bound, bound)


def added(x: jax.Array, a: jax.Array, b: jax.Array, scale: float) -> jax.Array:
    """Returns what factors a (C, r) and b (r, O) of a LoRA add to a layer's output for x (..., C)."""
    # The factors one after the other: their product would be as large as the kernel, and so its gradient.
    return (x @ a.astype(x.dtype)) @ b.astype(x.dtype) * scale


def without_some(x: jax.Array, lora: Lora, layer: LoraLayer, drop: jax.Array | None) -> jax.Array:
    """Returns what a layer's factors read of x (B, ..., C): without the keys `drop` (B,) all of it."""
    if drop is None or not lora.dropout:
        return x
    # A draw for each layer, also where several read the same x: the originals have one dropout for each.
    return dropout(folded(drop, LORA_LAYERS.index(layer)), x, lora.dropout)


class SharedAttention(nn.Module):
    """Causal attention whose query heads share heads of keys and values."""

    size: LanguageSize
    dtype: Any

    def setup(self) -> None:
        size, lora, dtype = self.size, self.size.lora, self.dtype
        self.q = Linear(size.heads * size.head, lora, dtype, size.qkv_bias)
        self.k = Linear(size.kv_heads * size.head, lora, dtype, size.qkv_bias)
        self.v = Linear(size.kv_heads * size.head, lora, dtype, size.qkv_bias)
        self.proj = Linear(size.width, lora, dtype, size.proj_bias)

    def queries(self, x: jax.Array, turns: Turns, drop: jax.Array | None = None) -> jax.Array:
        """x (B, L, C) -> turned queries (B, L, H, D)."""
        return self._turned(self.q(x, drop), turns)

    def keys(self, x: jax.Array, turns: Turns, drop: jax.Array | None = None) -> jax.Array:
        """x (B, L, C) -> turned keys (B, L, G, D)."""
        return self._turned(self.k(x, drop), turns)

    def _turned(self, y: jax.Array, turns: Turns) -> jax.Array:
        return rotary.rotate(y.reshape(*y.shape[:2], -1, self.size.head), *turns)

    def __call__(
        self,
        x: jax.Array,
        text: Text,
        cache: Cache | None,
        written: Written | None,
        drop: jax.Array | None = None,
    ) -> Any:
        """x (B, L, C) -> (B, L, C), and the cache with the new keys and values, if there is one."""
        q, k = self.queries(x, text.turns, drop), self.keys(x, text.turns, drop)
        v = self.v(x, drop).reshape(*k.shape)
        q = constrain(q, "batch", "tokens", "heads", None)
        k, v = constrain(k, "batch", None, "heads", None), constrain(v, "batch", None, "heads", None)
        if cache is None:
            segments = text.segments
            out = attend(
                q, k, v, causal=True, window=self.size.window, q_segments=segments, kv_segments=segments
            )
        else:
            assert written is not None
            assert text.segments is not None
            cache = with_tokens(cache, k, v, written.layer, written.start)
            # Read where they are needed: a layer's keys and values, taken out of a long cache, are a copy.
            read = functools.partial(stored_tokens, cache, written.layer, dtype=q.dtype)
            places = Places(True, self.size.window, written.start)
            out = attend_to_stored(q, read, cache.slots, text.segments, written.segments, places)
        return self.proj(out.reshape(*x.shape[:2], -1), drop), cache


class GatedMlp(nn.Module):
    """down(silu(gate) * up)."""

    size: LanguageSize
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, drop: jax.Array | None = None) -> jax.Array:
        """(B, L, C) -> (B, L, C)."""
        size, lora, dtype = self.size, self.size.lora, self.dtype
        gate = Linear(size.mlp_width, lora, dtype, size.mlp_bias, name="gate")(x, drop)
        up = Linear(size.mlp_width, lora, dtype, size.mlp_bias, name="up")(x, drop)
        down = Linear(size.width, lora, dtype, size.mlp_bias, name="down")
        return cast(jax.Array, down(jax.nn.silu(gate) * up, drop))


class DecoderBlock(nn.Module):
    """Pre-norm block: attention, gated MLP."""

    size: LanguageSize
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.norm1 = RMSNorm(self.size.epsilon, self.dtype)
        self.attn = SharedAttention(self.size, self.dtype)
        self.norm2 = RMSNorm(self.size.epsilon, self.dtype)
        self.mlp = GatedMlp(self.size, self.dtype)

    def __call__(
        self,
        x: jax.Array,
        text: Text,
        cache: Cache | None = None,
        written: Written | None = None,
        drop: jax.Array | None = None,
    ) -> Any:
        """x (B, L, C) -> (B, L, C), and the cache with this call's tokens, if there is one.

        `drop` (B,) are the keys of the rows' dropout in this block, in training.
        """
        x = enter_block(x)
        attended, cache = self.attn(self.norm1(x), text, cache, written, drop)
        x = x + attended
        return x + self.mlp(self.norm2(x), drop), cache

    def queries(self, x: jax.Array, turns: Turns) -> jax.Array:
        """Returns the queries (B, L, H, D) of this block's attention for x (B, L, C)."""
        return self.attn.queries(self.norm1(x), turns)

    def keys(self, x: jax.Array, turns: Turns) -> jax.Array:
        """Returns the keys (B, L, G, D) of this block's attention for x (B, L, C)."""
        return self.attn.keys(self.norm1(x), turns)
