"""Attention to keys that lie in a cache: they are read block by block, where they are needed."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ivjax.ops.blockwise import BLOCK, Places, pad_tokens, range_of, visible, with_keys, without_keys

_wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
_MATRIX = 1024 * 1024  # logits of a head that are computed at once: of 32 heads, 128 MiB

# first slot, count -> keys and values (B, G, count, D) of a cache
ReadKeys = Callable[[jax.Array, int], tuple[jax.Array, jax.Array]]


def at_once(queries: int, slots: int) -> bool:
    """Whether so many queries read a whole cache at once, and not in blocks."""
    # As the one query of a step of decoding does: a loop would take longer than its iterations.
    return queries * slots <= _MATRIX


def attend_to_stored(
    q: jax.Array, read: ReadKeys, slots: int, q_segments: jax.Array, kv_segments: jax.Array, places: Places
) -> jax.Array:
    """Attention of queries to the keys of a cache: q (B, N, H, D) -> (B, N, H, D). It has no gradient.

    `read` returns parts of the cache of `slots` tokens; segments (B, N) and (B, slots). A query that sees no
    key gets zeros. Memory grows with a block of keys, not with the cache.
    """
    count, groups = q.shape[1], jax.eval_shape(lambda: read(jnp.int32(0), 1))[0].shape[1]
    whole = at_once(count, slots)
    n, m = (count, slots) if whole else (min(BLOCK, count), min(BLOCK, slots))
    # Padding belongs to no segment, so it sees nothing.
    q, q_segments = pad_tokens(q, n), pad_tokens(q_segments, n, -2)
    # Query heads beside the group of keys that they share.
    q = q.reshape(*q.shape[:2], groups, -1, q.shape[3])
    scale = q.shape[-1] ** -0.5

    def queries(number: jax.Array | int) -> jax.Array:
        mine, segments = (jax.lax.dynamic_slice_in_dim(x, number * n, n, 1) for x in (q, q_segments))

        def keys(other, state):
            # The last block begins so early that it is whole; what was seen before does not count again.
            first = jnp.minimum(other * m, slots - m)
            k, v = read(first, m)
            at = first + jnp.arange(m)
            theirs = jax.lax.dynamic_slice_in_dim(kv_segments, first, m, 1)
            seen = visible(places, number * n + jnp.arange(n), at, segments, theirs) & (at >= other * m)
            logits = _wide("bngrd,bgmd->bgrnm", mine, k) * scale
            return with_keys(state, logits, seen[:, None, None], v)

        state = without_keys((len(q), *q.shape[2:4], n), q.shape[-1])
        if whole:
            total, _, out = keys(0, state)
        else:
            first, last = range_of(places, number, n, m, -(-slots // m))
            total, _, out = jax.lax.fori_loop(first, last, keys, state)
        out = out / jnp.where(total > 0, total, 1.0)[..., None]
        return jnp.moveaxis(out, 3, 1).astype(q.dtype)

    blocks = q.shape[1] // n
    out = queries(0)[None] if blocks == 1 else jax.lax.map(queries, jnp.arange(blocks))
    # (blocks, B, n, G, R, D) -> (B, N, H, D)
    out = jnp.moveaxis(out, 0, 1)
    return out.reshape(len(q), blocks * n, -1, q.shape[-1])[:, :count]
