"""Masks of blocks: boxes of a clip's patch grid are hidden, and what no box covers may be seen."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ivjax.ops.masking import places_of

Range = tuple[float, float]  # the least and the largest of what is drawn between

# Boxes that leave nothing to see are drawn anew so often at most; then a single one of them is hidden.
_ATTEMPTS = 8


class SeenPatches(NamedTuple):
    """The patches of each clip that are seen."""

    places: jax.Array  # (B, n) ascending where `seen`, then patches that fill up to n
    seen: jax.Array  # (B, n) bool


def block_shape(
    draws: jax.Array, grid: tuple[int, int, int], duration: Range, scale: Range, aspect: Range
) -> jax.Array:
    """Times, rows and columns (3,) int32 of a box, by three uniform draws (3,) from [0, 1).

    `duration` and `scale` are the least and the largest share of the times and of the patches of a frame;
    `aspect` those of rows over columns.
    """
    times, rows, columns = grid
    length, share, ratio = (
        low + u * (high - low) for u, (low, high) in zip(draws, (duration, scale, aspect), strict=True)
    )
    area = jnp.floor(rows * columns * share)
    box = (
        jnp.maximum(jnp.floor(times * length), 1),
        jnp.minimum(jnp.round(jnp.sqrt(area * ratio)), rows),
        jnp.minimum(jnp.round(jnp.sqrt(area / ratio)), columns),
    )
    return jnp.stack(box).astype(jnp.int32)


def outside(shape: jax.Array, corners: jax.Array, grid: tuple[int, int, int]) -> jax.Array:
    """Whether no box covers a patch: boxes of one shape (3,) at corners (n, 3) -> (T*H*W,) bool."""

    def covered(axis: int) -> jax.Array:
        places, first = jnp.arange(grid[axis]), corners[:, axis, None]
        return (places >= first) & (places < first + shape[axis])

    times, rows, columns = (covered(axis) for axis in range(3))
    inside = times[:, :, None, None] & rows[:, None, :, None] & columns[:, None, None, :]
    return ~jnp.any(inside, axis=0).reshape(-1)


def draw_uncovered(
    keys: jax.Array, blocks: int, grid: tuple[int, int, int], duration: Range, scale: Range, aspect: Range
) -> jax.Array:
    """Patches (B, T*H*W) bool that `blocks` boxes of one shape leave uncovered, by keys (B,) of clips."""
    return jax.vmap(lambda key: _clip_uncovered(key, blocks, grid, duration, scale, aspect))(keys)


def _clip_uncovered(
    key: jax.Array, blocks: int, grid: tuple[int, int, int], duration: Range, scale: Range, aspect: Range
) -> jax.Array:
    shape_key, corner_key = jax.random.split(key)
    shape = block_shape(jax.random.uniform(shape_key, (3,)), grid, duration, scale, aspect)
    free = jnp.asarray(grid) - shape + 1
    corners = jnp.floor(jax.random.uniform(corner_key, (_ATTEMPTS, blocks, 3)) * free).astype(jnp.int32)
    # A float32 draw near 1 times `free` may round up to it.
    corners = jnp.minimum(corners, free - 1)
    boxless = jax.vmap(lambda corners: outside(shape, corners, grid))(corners)
    some = jnp.any(boxless, axis=-1)
    # A fixed number of attempts: a loop until all clips show something would wait for the last of the batch.
    return jnp.where(jnp.any(some), boxless[jnp.argmax(some)], outside(shape, corners[0, :1], grid))


def first_of(uncovered: jax.Array, most: int, equal: bool = False) -> SeenPatches:
    """The first `most` of the uncovered patches (B, N); with `equal` no clip sees more than another."""
    counts = jnp.minimum(uncovered.sum(-1), most)
    if equal:
        counts = jnp.broadcast_to(counts.min(), counts.shape)
    return SeenPatches(places_of(uncovered, most), jnp.arange(most) < counts[:, None])


def hidden_by(seen: SeenPatches, patches: int) -> jax.Array:
    """Whether each of `patches` patches is not seen: (B, N) bool."""
    places = jnp.where(seen.seen, seen.places, patches)
    return jax.vmap(lambda at: jnp.ones(patches, bool).at[at].set(False, mode="drop"))(places)
