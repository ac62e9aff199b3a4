"""Batches worked off slice by slice: micro-batches of a step, chunks of a pass that would not fit whole."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def split_rows(rows: Any, count: int) -> Any:
    """Returns the rows of a tree of arrays as `count` slices on a leading axis.

    Row r goes to slice r % count. Contiguous slices would lie on few devices each, and every one of them
    would have to be spread over the mesh again.
    """
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0), rows)


def merge_rows(slices: Any) -> Any:
    """Undoes `split_rows`."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), slices)


def sum_of_slices(function: Callable[[Any], Any], slices: Any) -> Any:
    """Returns the sum of function(slice), one at a time."""
    first = jax.tree.map(lambda x: x[0], slices)
    # A scan with a zero start, rather than the first slice before the loop: the body is compiled once.
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first))

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    return jax.lax.scan(add, zeros, slices)[0]


def in_chunks(function: Callable[[Any], Any], rows: Any, most: int | None) -> Any:
    """Returns function(rows), which treats each row by itself, on at most `most` rows at a time (None: all).

    Of a chunk nothing but its rows is kept for the backward pass, which runs `function` again: memory grows
    with the chunk and not with the batch.
    """
    total = len(jax.tree.leaves(rows)[0])
    if most is None or most >= total:
        return function(rows)
    # Equal chunks, because a scan needs them equal.
    count = next(k for k in range(-(-total // most), total + 1) if total % k == 0)
    return merge_rows(jax.lax.map(jax.checkpoint(function), split_rows(rows, count)))
