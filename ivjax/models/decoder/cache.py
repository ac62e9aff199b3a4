"""Keys and values of the tokens before, in buffers of fixed length."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ivjax.ops.layout import constrain

CacheType = Literal[
    "compute", "int8"
]  # what keys and values are stored as; `compute`: what layers compute in


class Cache(NamedTuple):
    """Keys and values of all slots, for a run of layers.

    Attributes:
        keys: (layers, B, M, G, D), already turned to their positions.
        values: (layers, B, M, G, D).
        key_scales: (layers, B, M, G, 1) float32, what int8 keys are multiplied by; None: keys are no int8.
        value_scales: (layers, B, M, G, 1) float32, the same for values.
    """

    keys: jax.Array
    values: jax.Array
    key_scales: jax.Array | None = None
    value_scales: jax.Array | None = None


def empty_cache(
    layers: int,
    batch: int,
    slots: int,
    heads: int,
    width: int,
    dtype: jnp.dtype,
    stored: CacheType = "compute",
) -> Cache:
    """Returns a cache of `slots` tokens for `layers` layers; rows over the batch axes, heads over tensor."""
    shape = (layers, batch, slots, heads, width)

    def zeros(shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
        return constrain(jnp.zeros(shape, dtype), None, "batch", None, "heads", None)

    if stored == "compute":
        return Cache(zeros(shape, dtype), zeros(shape, dtype))
    scales = (*shape[:-1], 1)
    return Cache(*(zeros(shape, jnp.int8) for _ in "kv"), *(zeros(scales, jnp.float32) for _ in "kv"))


def with_tokens(
    cache: Cache, keys: jax.Array, values: jax.Array, layer: jax.Array | int, start: jax.Array
) -> Cache:
    """Returns the cache with keys and values (B, n, G, D) of a layer's new tokens from slot `start` on."""
    new = Cache(keys, values)
    if cache.key_scales is not None:
        (keys, key_scales), (values, value_scales) = _rounded(keys), _rounded(values)
        new = Cache(keys, values, key_scales, value_scales)
    # A tree leaves out scales that are None.
    return jax.tree.map(lambda old, fresh: _put(old, fresh, layer, start), cache, new)


def stored_tokens(cache: Cache, layer: jax.Array | int, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Returns a layer's keys and values (B, M, G, D) in `dtype`."""
    mine = jax.tree.map(lambda c: jax.lax.dynamic_index_in_dim(c, layer, keepdims=False), cache)
    if mine.key_scales is None or mine.value_scales is None:
        return mine.keys.astype(dtype), mine.values.astype(dtype)
    keys, values = mine.keys * mine.key_scales, mine.values * mine.value_scales
    return keys.astype(dtype), values.astype(dtype)


def _put(old: jax.Array, new: jax.Array, layer: jax.Array | int, start: jax.Array) -> jax.Array:
    # The new slots alone: a layer's cache that is taken out and put back is moved twice for every token.
    return jax.lax.dynamic_update_slice(old, new[None].astype(old.dtype), (layer, 0, start, 0, 0))


def _rounded(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """int8 numbers, and the scale of each token and head."""
    wide = x.astype(jnp.float32)
    # The floor keeps a token of zeros from a division by zero.
    scale = jnp.maximum(jnp.max(jnp.abs(wide), axis=-1, keepdims=True), 1e-8) / 127
    return jnp.round(wide / scale).astype(jnp.int8), scale
