"""Contrastive losses whose embeddings travel round the devices: none ever holds all rows or all logits.

Each device keeps its rows of the left embeddings; the rows of the right ones pass by, block after
block, with what has been gathered about them so far. The backward pass goes round once more and makes
the logits again.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from ivjax.ops.layout import batch_axes

_LOGITS = 2**23  # that a device holds at a time: 32 MiB in float32

# (fixed rows, changing rows, what passes by, sums) -> the last three
Visit = Callable[[Any, Any, Any, Any], tuple[Any, Any, Any]]
Gradients = tuple[jax.Array, jax.Array, None, jax.Array, jax.Array]


class _Stats(NamedTuple):
    """Running facts of each row: maximum and sum of exponentials of logits, sum and number of positives."""

    top: jax.Array
    total: jax.Array
    positive: jax.Array
    members: jax.Array

    def cross_entropy(self) -> jax.Array:
        """Against the row's positives, each weighing the same."""
        return self.log_total() - self.positive / self.members

    def log_total(self) -> jax.Array:
        """Logarithm of the sum of exponentials."""
        return self.top + jnp.log(self.total)


def _no_stats(rows: int) -> _Stats:
    zeros = jnp.zeros(rows, jnp.float32)
    # With -inf for the maximum so far, the first block scales an empty sum by exp(-inf) = 0, not by NaN.
    return _Stats(zeros - jnp.inf, zeros, zeros, zeros)


def _merge(stats: _Stats, logits: jax.Array, same: jax.Array) -> _Stats:
    """Adds logits (n, m) of each row with m further columns."""
    top = jnp.maximum(stats.top, logits.max(-1))
    total = stats.total * jnp.exp(stats.top - top) + jnp.exp(logits - top[:, None]).sum(-1)
    positive = stats.positive + jnp.where(same, logits, 0.0).sum(-1)
    return _Stats(top, total, positive, stats.members + same.sum(-1))


# Written by hand, because jax's own gradient of the tour would keep the logits of every stop.
@jax.custom_vjp
def ring_info_nce(
    left: jax.Array, right: jax.Array, ids: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """As `contrastive.info_nce`, for unit rows (N, D) split over the batch axes of the mesh in context."""
    return _info_nce_forward(left, right, ids, scale, bias)[0]


def _info_nce_forward(left, right, ids, scale, bias):
    def visit(fixed, rows, passing, sums):
        (block, block_ids), columns = passing
        logits, same = _logits(fixed, block, block_ids, scale, bias)
        return _merge(rows, logits, same), (passing[0], _merge(columns, logits.T, same.T)), sums

    def local(left, right, ids, scale, bias):
        fresh = _no_stats(len(ids))
        # The statistics of the columns travel with them, so one tour serves both directions of the loss.
        rows, (_, columns), _ = _tour(visit, (left, ids), fresh, ((right, ids), fresh), ())
        losses = (rows.cross_entropy() + columns.cross_entropy()) / 2
        return losses, rows.log_total(), columns.log_total(), rows.members

    # With the logarithms of the sums, the backward pass makes each weight again as exp(logit - total).
    losses, *facts = _on_mesh(local)(left, right, ids, scale, bias)
    return losses.mean(), (left, right, ids, scale, bias, *facts)


def _info_nce_backward(kept, gradient) -> Gradients:
    left, right, ids, scale, bias, row_total, column_total, count = kept
    factor = gradient / (2 * len(ids))

    def slope(logits, same, row_facts, column_facts):
        (row_total, row_count), (column_total, column_count) = row_facts, column_facts
        expected = jnp.exp(logits - row_total[:, None]) + jnp.exp(logits - column_total[None])
        return factor * (expected - same * (1 / row_count[:, None] + 1 / column_count[None]))

    return _backward(slope, left, right, ids, scale, bias, (row_total, count), (column_total, count))


ring_info_nce.defvjp(_info_nce_forward, _info_nce_backward)


@jax.custom_vjp
def ring_sigmoid(
    left: jax.Array, right: jax.Array, ids: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """As `contrastive.sigmoid`, for unit rows (N, D) split over the batch axes of the mesh in context."""
    return _sigmoid_forward(left, right, ids, scale, bias)[0]


def _sigmoid_forward(left, right, ids, scale, bias):
    def visit(fixed, rows, passing, sums):
        block, block_ids = passing
        logits, same = _logits(fixed, block, block_ids, scale, bias)
        return rows - jax.nn.log_sigmoid(jnp.where(same, logits, -logits)).sum(-1), passing, sums

    def local(left, right, ids, scale, bias):
        return _tour(visit, (left, ids), jnp.zeros(len(ids)), (right, ids), ())[0]

    return _on_mesh(local)(left, right, ids, scale, bias).mean(), (left, right, ids, scale, bias)


def _sigmoid_backward(kept, gradient) -> Gradients:
    left, right, ids, scale, bias = kept
    factor = gradient / len(ids)

    def slope(logits, same, row_facts, column_facts):
        sign = jnp.where(same, 1.0, -1.0)
        return -factor * sign * jax.nn.sigmoid(-sign * logits)

    return _backward(slope, left, right, ids, scale, bias, (), ())


ring_sigmoid.defvjp(_sigmoid_forward, _sigmoid_backward)


def _logits(
    fixed: tuple[jax.Array, jax.Array], block: jax.Array, ids: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Logits of some left rows with a block of right ones, and which pairs are positives."""
    left, left_ids = fixed
    return scale * (left @ block.T) + bias, left_ids[:, None] == ids[None, :]


def _backward(slope, left, right, ids, scale, bias, row_facts, column_facts) -> Gradients:
    """Returns the gradients; `slope(logits, same, row_facts, column_facts)` is that of each logit."""

    def visit(fixed, gradient, passing, sums):
        left, left_ids, row_facts = fixed
        (block, block_ids, column_facts), block_gradient = passing
        logits, same = _logits((left, left_ids), block, block_ids, scale, bias)
        by_logit = slope(logits, same, row_facts, column_facts)
        block_gradient = block_gradient + scale * (by_logit.T @ left)
        # (logits - bias) / scale are the cosines, which thus need no second product.
        scale_sum = sums[0] + jnp.sum(by_logit * ((logits - bias) / scale))
        passing = ((block, block_ids, column_facts), block_gradient)
        return gradient + scale * (by_logit @ block), passing, (scale_sum, sums[1] + by_logit.sum())

    def local(left, right, ids, row_facts, column_facts):
        zero = jnp.zeros((), jnp.float32)
        passing = ((right, ids, column_facts), jnp.zeros_like(right))
        of_left, (_, of_right), sums = _tour(
            visit, (left, ids, row_facts), jnp.zeros_like(left), passing, (zero, zero)
        )
        # Each device's share of the scalars leaves as a row, because what leaves the shard_map is split by
        # rows; they are summed outside.
        return of_left, of_right, jax.tree.map(lambda x: x[None], sums)

    of_left, of_right, (of_scale, of_bias) = _on_mesh(local)(left, right, ids, row_facts, column_facts)
    return of_left, of_right, None, of_scale.sum(), of_bias.sum()


def _tour(visit: Visit, fixed: Any, rows: Any, passing: Any, sums: Any) -> tuple[Any, Any, Any]:
    """Sends `passing` to every device and back; each visit takes a device's rows chunk by chunk."""
    axes = batch_axes()
    stops = math.prod(jax.lax.axis_size(axis) for axis in axes)
    count, width = (len(jax.tree.leaves(tree)[0]) for tree in (fixed, passing))
    # A device's rows are visited in equal chunks, as few as keep the logits below the
    # limit: a scan needs them equal.
    most = max(_LOGITS // width, 1)
    chunks = next(k for k in range(1, count + 1) if count % k == 0 and count // k <= most)
    split = lambda tree: jax.tree.map(lambda x: x.reshape(chunks, -1, *x.shape[1:]), tree)  # noqa: E731
    fixed = split(fixed)

    def one_chunk(carry, chunk):
        fixed, rows = chunk
        rows, passing, sums = visit(fixed, rows, *carry)
        return (passing, sums), rows

    def one_stop(carry, _):
        rows, passing, sums = carry
        (passing, sums), rows = jax.lax.scan(one_chunk, (passing, sums), (fixed, rows))
        # Passed on after the last stop as well: what was gathered about a block has to come home with it.
        return (rows, _pass_on(passing, axes, stops), sums), None

    (rows, passing, sums), _ = jax.lax.scan(one_stop, (split(rows), passing, sums), length=stops)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows), passing, sums


def _pass_on(passing: Any, axes: tuple[str, ...], stops: int) -> Any:
    if stops == 1:
        return passing
    to_next = [(device, (device + 1) % stops) for device in range(stops)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, axes, to_next), passing)


def _on_mesh(local: Callable[..., Any]) -> Callable[..., Any]:
    """Runs `local` on each device's rows; scalars go in whole, all outputs are rows."""
    axes = batch_axes()
    if not axes:
        return local

    def mapped(*arguments: Any) -> Any:
        specs = jax.tree.map(lambda x: PartitionSpec(axes) if x.ndim else PartitionSpec(), arguments)
        # Nothing is differentiated inside, so the check of what varies has no use.
        rows = PartitionSpec(axes)
        return jax.shard_map(local, in_specs=specs, out_specs=rows, check_vma=False)(*arguments)

    return mapped
