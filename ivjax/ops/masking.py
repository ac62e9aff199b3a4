"""Draws the tokens that the student sees: a static number of them, by top-k, sort and gather.

Token 0 is the class token and is always visible; patches are numbered time-major from 1.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.ops.counting import visible_count


def draw_visible(weights: jax.Array, noise: jax.Array, ratio: float) -> jax.Array:
    """Visible token indices (B, 1 + R*n), ascending, of rows drawn without replacement by weight.

    `weights` (B, R, L) are non-negative and need no normalisation; `noise` is Exp(1) of the same
    shape. Each of the R rows (frames, or one row for the whole clip) keeps n = visible_count(L).
    Ordering by weight / Exp(1) is a draw without replacement proportional to the weight.
    """
    batch, rows, length = weights.shape
    # A top-k has a static number of results, which a draw by threshold would not have. This order is the one
    # in which torch.multinomial draws, noise for noise.
    _, chosen = jax.lax.top_k(weights / noise, visible_count(length, ratio))
    flat = (chosen + length * jnp.arange(rows)[:, None]).reshape(batch, -1)
    # Ascending, because the originals keep the visible tokens by a boolean mask, which keeps their order.
    return with_class_tokens(jnp.sort(flat, axis=-1))


def draw_tube(noise: jax.Array, frames: int, ratio: float) -> jax.Array:
    """Visible token indices (B, 1 + T*n): one uniform draw of patches per clip, shared by all frames.

    `noise` (B, L) is any continuous noise, one value per patch of a frame.
    """
    batch, patches = noise.shape
    _, chosen = jax.lax.top_k(noise, visible_count(patches, ratio))
    # Sorted within a frame; frames follow each other, so the whole is ascending.
    tube = jnp.sort(chosen, axis=-1)[:, None] + patches * jnp.arange(frames)[:, None]
    return with_class_tokens(tube.reshape(batch, -1))


def running_cells(times: int, rows: int, columns: int, ratio: float) -> np.ndarray:
    """Patches that a running-cell mask skips, (4, T*H*W) bool: a row for each place where it may start.

    All cells of 2x2 patches show the same ring of four, of which int(4 * ratio) are skipped; from one time
    to the next the ring turns by one place.
    """
    # The ring has turned once before the first time already, as in the originals.
    turns = np.arange(4)[:, None] + 1 + np.arange(times)
    ring = np.arange(4) < int(4 * ratio)
    cells = ring[(np.arange(4) + turns[:, :, None]) % 4].reshape(4, times, 2, 2)
    return np.tile(cells, (1, 1, rows // 2, columns // 2)).reshape(4, -1)


def hidden_from(visible: jax.Array, patches: int) -> jax.Array:
    """Whether each of `patches` patches is missing in `visible` (B, n), counted from 0: (B, N) bool."""
    return jax.vmap(lambda seen: jnp.ones(patches, bool).at[seen].set(False))(visible)


def places_of(mask: jax.Array, count: int) -> jax.Array:
    """Indices (B, count), ascending, of the `count` places where each row of `mask` (B, N) is true."""
    # A stable sort, so that places of equal value stay in order. The count is given,
    # because jit needs static shapes.
    return jnp.argsort(~mask, axis=-1, stable=True)[:, :count].astype(jnp.int32)


def with_class_tokens(patches: jax.Array, count: int = 1) -> jax.Array:
    """Patches (B, n) counted from 0 -> tokens (B, count + n) with the class tokens first."""
    first = jnp.broadcast_to(jnp.arange(count, dtype=patches.dtype), (len(patches), count))
    return jnp.concatenate([first, patches + count], axis=1)


def gather_tokens(x: jax.Array, index: jax.Array) -> jax.Array:
    """Takes tokens `index` (B, n) of `x` (B, N, C): (B, n, C). Out-of-range indices are a caller bug."""
    # The default mode would compare every index with the length, and fill what lies outside with NaN.
    return jnp.take_along_axis(x, index[:, :, None], axis=1, mode="promise_in_bounds")
