"""Keys and values of the tokens before, in buffers of fixed length."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ivjax.ops.layout import constrain

CacheType = Literal[
    "compute", "int8"
]  # what keys and values are stored as; `compute`: what layers compute in

# Which axes of a cache a mesh splits; scales have all but the last.
CACHE_AXES = (None, "batch", "heads", None, None)


class Cache(NamedTuple):
    """Keys and values of all slots of a run of layers.

    Heads go before slots: so attention reads them, and another order would be copied, cache by cache.

    Attributes:
        keys: (layers, B, G, M, D), already turned to their positions.
        values: (layers, B, G, M, D).
        key_scales: (layers, B, G, M) float32, what int8 keys are multiplied by; None: keys are no int8.
        value_scales: (layers, B, G, M) float32, the same for values.
    """

    keys: jax.Array
    values: jax.Array
    key_scales: jax.Array | None = None
    value_scales: jax.Array | None = None

    @property
    def slots(self) -> int:
        """Tokens that there is room for."""
        return self.keys.shape[3]


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
    shape = (layers, batch, heads, slots, width)

    def zeros(shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
        return constrain(jnp.zeros(shape, dtype), *CACHE_AXES[: len(shape)])

    if stored == "compute":
        return Cache(zeros(shape, dtype), zeros(shape, dtype))
    # Without an axis of one number: TPUs would lay it out anew in every call.
    return Cache(*(zeros(shape, jnp.int8) for _ in "kv"), *(zeros(shape[:-1], jnp.float32) for _ in "kv"))


def with_tokens(
    cache: Cache, keys: jax.Array, values: jax.Array, layer: jax.Array | int, start: jax.Array
) -> Cache:
    """Returns the cache with keys and values (B, n, G, D) of new tokens of a layer, from slot `start` on."""
    new = Cache(keys, values)
    if cache.key_scales is not None:
        (keys, key_scales), (values, value_scales) = _rounded(keys), _rounded(values)
        new = Cache(keys, values, key_scales, value_scales)
    # Into the cache of all layers: that of one, taken out and put back, would be copied twice.
    # A tree leaves out scales that are None.
    return jax.tree.map(lambda old, fresh: _put(old, fresh, layer, start), cache, new)


def stored_tokens(
    cache: Cache, layer: jax.Array | int, start: jax.Array, count: int, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    """Returns keys and values (B, G, `count`, D) of a layer from slot `start` on, in `dtype`."""

    def taken(stored: jax.Array, scales: jax.Array | None) -> jax.Array:
        found = _part(stored, layer, start, count)
        if scales is not None:
            found = found * _part(scales, layer, start, count)[..., None]
        return found.astype(dtype)

    return taken(cache.keys, cache.key_scales), taken(cache.values, cache.value_scales)


def _put(old: jax.Array, new: jax.Array, layer: jax.Array | int, start: jax.Array) -> jax.Array:
    new = new.astype(old.dtype).swapaxes(1, 2)[None]
    return jax.lax.dynamic_update_slice(old, new, _corner(old, layer, start))


def _part(stored: jax.Array, layer: jax.Array | int, start: jax.Array, count: int) -> jax.Array:
    shape = (1, *stored.shape[1:3], count, *stored.shape[4:])
    return jax.lax.dynamic_slice(stored, _corner(stored, layer, start), shape)[0]


def _corner(stored: jax.Array, layer: jax.Array | int, start: jax.Array) -> tuple[jax.Array | int, ...]:
    return (layer, 0, 0, start, 0)[: stored.ndim]


def _rounded(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """int8 numbers, and the scale of each token and head."""
    wide = x.astype(jnp.float32)
    # The floor keeps a token of zeros from a division by zero.
    scale = jnp.maximum(jnp.max(jnp.abs(wide), axis=-1), 1e-8) / 127
    return jnp.round(wide / scale[..., None]).astype(jnp.int8), scale
