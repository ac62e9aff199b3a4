"""Hard negatives: for each row another row that looks alike and is not the same thing."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from ivjax.ops.layout import batch_axes
from ivjax.ops.losses import l2_normalise
from ivjax.ops.randomness import folded


class Negatives(NamedTuple):
    """A negative for each of N rows, and whether there is one: not where all rows have the same id.

    Attributes:
        right: (N,) int32, the row whose right side is the negative of a row's left side.
        left: (N,) int32, the row whose left side is the negative of a row's right side.
        found: (N,) float32, 1 or 0.
    """

    right: jax.Array
    left: jax.Array
    found: jax.Array


def negative_weights(logits: jax.Array, ids: jax.Array) -> jax.Array:
    """Logarithms of the weights (..., N, N) by which each row draws a column: -inf where ids are equal.

    logits (..., N, N), ids (..., N). The weights are a softmax over all columns; some are then left out.
    """
    same = ids[..., :, None] == ids[..., None, :]
    # Logarithms, because weights at a low temperature underflow, and a row of zeros cannot be drawn from.
    return jnp.where(same, -jnp.inf, jax.nn.log_softmax(logits.astype(jnp.float32)))


def draw_negatives(
    left: jax.Array,
    right: jax.Array,
    ids: jax.Array,
    scale: jax.Array,
    keys: jax.Array,
    group: int | None = None,
    easy: float = 0.0,
) -> Negatives:
    """Draws a negative for both sides of each row, by cosine: left and right (N, D), ids and keys (N,).

    Without gradients. `group`: so many rows that follow each other are compared among themselves (None: all
    rows); that of one device is what the originals do. `easy`: the share of rows that draw among all others
    alike, whatever their cosine.
    """
    strength = jax.lax.stop_gradient(scale) * jnp.ones(len(ids))
    if easy:
        strength *= jax.vmap(jax.random.uniform)(folded(keys, 2)) >= easy
    left, right = (l2_normalise(jax.lax.stop_gradient(x)) for x in (left, right))
    left, right, ids, keys, strength = (grouped(x, group) for x in (left, right, ids, keys, strength))
    cosines = jnp.einsum("gid,gjd->gij", left, right)
    rows = drawn(negative_weights(strength[..., None] * cosines, ids), keys, "right", group)
    columns = drawn(negative_weights(strength[..., None] * cosines.swapaxes(1, 2), ids), keys, "left", group)
    found = jnp.any(ids[:, :, None] != ids[:, None, :], axis=-1).reshape(-1).astype(jnp.float32)
    return Negatives(rows, columns, found)


def drawn(weights: jax.Array, keys: jax.Array, side: str, group: int | None = None) -> jax.Array:
    """Draws a column for each row of log weights (G, n, n) by keys (G, n): numbers in the batch (G * n,)."""
    number = {"right": 0, "left": 1}[side]  # 2 is that of easy rows
    width = weights.shape[-1]
    noise = jax.vmap(jax.vmap(lambda key: jax.random.gumbel(jax.random.fold_in(key, number), (width,))))(keys)
    # The largest of log weight + Gumbel noise is a draw in proportion to the weights.
    chosen = jnp.argmax(weights + noise, axis=-1).astype(jnp.int32)
    return (chosen + width * jnp.arange(len(chosen), dtype=jnp.int32)[:, None]).reshape(-1)


def grouped(rows: jax.Array, group: int | None) -> jax.Array:
    """Rows (N, ...) as (groups, rows of a group, ...)."""
    return rows.reshape(-1, group or len(rows), *rows.shape[1:])


def take_rows(rows: Any, index: jax.Array, group: int | None = None) -> Any:
    """Returns the rows `index` (N,) of a tree of arrays (N, ...) that the mesh splits by row.

    `group`: each row takes one of its own group, as `draw_negatives` draws them.
    """
    if group is not None:
        inside = grouped(index, group) % group
        # By group, so that nothing is fetched from elsewhere where a group lies on one device.
        take = jax.vmap(lambda x, places: x[places])
        return jax.tree.map(lambda x: take(grouped(x, group), inside).reshape(x.shape), rows)
    axes = batch_axes()
    if not axes:
        return jax.tree.map(lambda x: x[index], rows)
    split = PartitionSpec(axes)
    return jax.shard_map(_taken_round_the_ring, in_specs=(split, split), out_specs=split)(rows, index)


def _taken_round_the_ring(rows: Any, index: jax.Array) -> Any:
    """Each device's rows travel past all others, which take what they want: none ever holds all rows."""
    axes, count = batch_axes(), len(index)
    devices = math.prod(jax.lax.axis_size(axis) for axis in axes)
    here = jax.lax.axis_index(axes)
    to_next = [(device, (device + 1) % devices) for device in range(devices)]

    def stop(carry: Any, turn: jax.Array) -> tuple[Any, None]:
        passing, found = carry
        place = index - count * ((here - turn) % devices)
        inside = (place >= 0) & (place < count)

        def taken(block: jax.Array, found: jax.Array) -> jax.Array:
            some = block[jnp.clip(place, 0, count - 1)]
            return jnp.where(inside.reshape(-1, *[1] * (block.ndim - 1)), some, found)

        found = jax.tree.map(taken, passing, found)
        return (jax.tree.map(lambda x: jax.lax.ppermute(x, axes, to_next), passing), found), None

    return jax.lax.scan(stop, (rows, jax.tree.map(jnp.zeros_like, rows)), jnp.arange(devices))[0][1]
