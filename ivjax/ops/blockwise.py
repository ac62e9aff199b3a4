"""Attention in blocks of queries and keys: memory grows with the tokens, not with their square."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

BLOCK = 512  # queries and keys of a block
_wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

# sum of weights and largest logit (B, G, R, n), and weighted values (B, G, R, n, D), of the keys seen so far
SoftmaxState = tuple[jax.Array, jax.Array, jax.Array]


class Places(NamedTuple):
    """Which keys a query sees, beside those of its own segment.

    Attributes:
        causal: whether a query sees no key after its own place.
        window: how many keys up to its own place it sees, and as many after it if not `causal` (None: all).
        start: the place of the first query among the keys, int32.
    """

    causal: bool
    window: int | None
    start: jax.Array


def visible(
    places: Places, queries: jax.Array, keys: jax.Array, q_segments: jax.Array, kv_segments: jax.Array
) -> jax.Array:
    """Whether queries see keys: their places (n,) and (m,), segments (B, n) and (B, m) -> (B, n, m)."""
    seen = q_segments[:, :, None] == kv_segments[:, None, :]
    ahead = places.start + queries[:, None] - keys[None, :]
    if places.causal:
        seen &= ahead >= 0
    if places.window is not None:
        seen &= jnp.abs(ahead) < places.window
    return seen


def attend_in_blocks(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    q_segments: jax.Array,
    kv_segments: jax.Array,
    causal: bool,
    window: int | None,
    start: jax.Array,
) -> jax.Array:
    """q (B, N, H, D), k and v (B, M, G, D), segments (B, N) and (B, M) -> (B, N, H, D).

    `start` is the place of the first query among the keys. A query that sees no key gets zeros.
    """
    count, groups = q.shape[1], k.shape[2]
    # Segments count from 0: padding of queries and of keys is in different segments, so that nothing sees it.
    q, q_segments = _padded(q), _padded(q_segments, -1)
    k, v, kv_segments = _padded(k), _padded(v), _padded(kv_segments, -2)
    # Query heads beside the group of keys that they share.
    q = q.reshape(*q.shape[:2], groups, -1, q.shape[3])
    out = _blocks(q, k, v, q_segments, kv_segments, start, causal, window)
    return out.reshape(*out.shape[:2], -1, out.shape[-1])[:, :count]


def _padded(x: jax.Array, value: int = 0) -> jax.Array:
    """Pads tokens to whole blocks; fewer than a block become one, of a multiple of 8 as TPUs lay them out."""
    return pad_tokens(x, min(BLOCK, -(-x.shape[1] // 8) * 8), value)


def pad_tokens(x: jax.Array, multiple: int, value: int = 0) -> jax.Array:
    """Pads axis 1 to a multiple."""
    widths = [(0, 0), (0, -x.shape[1] % multiple)] + [(0, 0)] * (x.ndim - 2)
    return jnp.pad(x, widths, constant_values=value)


def _size(x: jax.Array) -> int:
    return min(BLOCK, x.shape[1])


def _block(x: jax.Array, number: jax.Array) -> jax.Array:
    size = _size(x)
    return jax.lax.dynamic_slice_in_dim(x, number * size, size, axis=1)


# The loops have bounds that depend on `start`, which jax's own gradient does not allow; and it would keep the
# weights of all blocks.
@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _blocks(q, k, v, q_segments, kv_segments, start, causal, window):
    return _forward(q, k, v, q_segments, kv_segments, start, causal, window)[0]


def _forward(q, k, v, q_segments, kv_segments, start, causal, window):
    places = Places(causal, window, start)
    n, m = _size(q), _size(k)
    scale = q.shape[-1] ** -0.5

    def queries(number):
        mine, segments = _block(q, number), _block(q_segments, number)

        def keys(other, state):
            logits, seen = _logits(places, mine, k, segments, kv_segments, number, other, scale)
            return with_keys(state, logits, seen, _block(v, other).swapaxes(1, 2))

        state = without_keys((len(q), q.shape[2], q.shape[3], n), v.shape[-1])
        first, last = range_of(places, number, n, m, k.shape[1] // m)
        total, top, out = jax.lax.fori_loop(first, last, keys, state)
        safe = jnp.where(total > 0, total, 1.0)
        out = jnp.moveaxis(out / safe[..., None], 3, 1).astype(q.dtype)
        return out, jnp.where(total > 0, top + jnp.log(safe), jnp.inf)

    out, totals = jax.lax.map(queries, jnp.arange(q.shape[1] // n))
    # (blocks, B, n, G, R, D) -> (B, N, G, R, D)
    out = jnp.moveaxis(out, 0, 1).reshape(q.shape)
    return out, (q, k, v, q_segments, kv_segments, start, out, totals)


def without_keys(shape: tuple[int, ...], width: int) -> SoftmaxState:
    """Returns the state of queries (B, G, R, n) that have seen no keys; values have `width` channels."""
    return jnp.zeros(shape), jnp.full(shape, -jnp.inf), jnp.zeros((*shape, width))


def with_keys(state: SoftmaxState, logits: jax.Array, seen: jax.Array, values: jax.Array) -> SoftmaxState:
    """Returns the state with more keys: logits (B, G, R, n, m), which of them count, values (B, G, m, D)."""
    total, top, out = state
    new = jnp.maximum(top, jnp.max(jnp.where(seen, logits, -jnp.inf), axis=-1))
    # Before the first key that is seen the maximum is -inf; a difference of two of them is nan.
    shift = jnp.where(jnp.isfinite(new), new, 0.0)
    weights = jnp.where(seen, jnp.exp(logits - shift[..., None]), 0.0)
    kept = jnp.exp(top - shift)
    value = _wide("bgrnm,bgmd->bgrnd", weights.astype(values.dtype), values)
    return total * kept + weights.sum(-1), new, out * kept[..., None] + value


def range_of(places: Places, number: Any, n: int, m: int, blocks: int) -> tuple[Any, Any]:
    """The first block of keys that a block of queries may see, and the one after the last."""
    if not places.causal and places.window is None:
        return 0, blocks
    # Without `causal` a query sees on to the end of its window.
    after = 0 if places.causal or places.window is None else places.window - 1
    last = jnp.minimum((places.start + (number + 1) * n - 1 + after) // m + 1, blocks)
    if places.window is None:
        return 0, last
    return jnp.maximum(places.start + number * n - places.window + 1, 0) // m, last


def _logits(places, mine, k, segments, kv_segments, number, other, scale):
    n, m = mine.shape[1], _size(k)
    logits = _wide("bngrd,bmgd->bgrnm", mine, _block(k, other))
    seen = visible(
        places, number * n + jnp.arange(n), other * m + jnp.arange(m), segments, _block(kv_segments, other)
    )
    return logits * scale, seen[:, None, None]


def _backward(causal, window, saved, gradient):
    q, k, v, q_segments, kv_segments, start, out, totals = saved
    places = Places(causal, window, start)
    n, m, scale = _size(q), _size(k), q.shape[-1] ** -0.5
    # The softmax's gradient needs the sum over keys of weight times gradient, which is this product.
    centre = jnp.sum(gradient.astype(jnp.float32) * out, axis=-1)

    def pair(number, other):
        """Weights and gradients of the logits of two blocks (B, G, R, n, m), and the gradient's block."""
        mine, segments = _block(q, number), _block(q_segments, number)
        logits, seen = _logits(places, mine, k, segments, kv_segments, number, other, scale)
        weights = jnp.where(seen, jnp.exp(logits - totals[number][..., None]), 0.0)
        g = _block(gradient, number)
        d_weights = _wide("bngrd,bmgd->bgrnm", g, _block(v, other))
        middle = jnp.moveaxis(_block(centre, number), 1, 3)[..., None]
        d_logits = (weights * (d_weights - middle) * scale).astype(q.dtype)
        return mine, g, weights.astype(v.dtype), d_logits

    def queries(number):
        first, last = range_of(places, number, n, m, k.shape[1] // m)

        def keys(other, total):
            *_, d_logits = pair(number, other)
            return total + _wide("bgrnm,bmgd->bngrd", d_logits, _block(k, other))

        zeros = jnp.zeros((len(q), n, *q.shape[2:]), jnp.float32)
        return jax.lax.fori_loop(first, last, keys, zeros).astype(q.dtype)

    def keys(other):
        def queries(number, totals):
            mine, g, weights, d_logits = pair(number, other)
            d_k = _wide("bgrnm,bngrd->bmgd", d_logits, mine)
            d_v = _wide("bgrnm,bngrd->bmgd", weights, g)
            return totals[0] + d_k, totals[1] + d_v

        zeros = tuple(jnp.zeros((len(k), m, *x.shape[2:]), jnp.float32) for x in (k, v))
        # The queries that see these keys: from the first one at their place on, or from a window before it.
        last = q.shape[1] // n
        first: Any = 0
        if causal or window is not None:
            before = 0 if causal else window - 1
            first = jnp.minimum(jnp.maximum(other * m - before - start, 0) // n, last)
        if window is not None:
            last = jnp.clip((other * m + m + window - 2 - start) // n + 1, 0, last)
        d_k, d_v = jax.lax.fori_loop(first, last, queries, zeros)
        return d_k.astype(k.dtype), d_v.astype(v.dtype)

    d_q = jax.lax.map(queries, jnp.arange(q.shape[1] // n))
    d_k, d_v = jax.lax.map(keys, jnp.arange(k.shape[1] // m))
    whole = (jnp.moveaxis(d, 0, 1).reshape(x.shape) for d, x in ((d_q, q), (d_k, k), (d_v, v)))
    return (*whole, None, None, None)


_blocks.defvjp(_forward, _backward)
