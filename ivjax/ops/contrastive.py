"""Contrastive losses between two sets of embeddings that belong together row by row.

Rows with the same id are positives of each other. Three forms give the same values and gradients:
`dense` holds all logits, `gathered` holds one device's rows of them (all embeddings on each device),
`ring` holds a block of them and one device's embeddings.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from ivjax.ops.layout import batch_axes
from ivjax.ops.losses import l2_normalise
from ivjax.ops.ring import ring_info_nce, ring_sigmoid

# How rows on several devices meet: all at once, gathered, or passed round a ring.
Form = Literal["dense", "gathered", "ring"]
Kind = Literal["info_nce", "sigmoid"]  # a softmax over all candidates, or a sigmoid for each pair


def contrastive_loss(
    left: jax.Array,
    right: jax.Array,
    ids: jax.Array,
    scale: jax.Array,
    bias: jax.Array | float = 0.0,
    kind: Kind = "info_nce",
    form: Form = "gathered",
) -> jax.Array:
    """Loss of embeddings (N, D) and (N, D), normalised here, with ids (N,); logits are scale * cos + bias."""
    return product_loss(l2_normalise(left), l2_normalise(right), ids, scale, bias, kind, form)


def product_loss(
    left: jax.Array,
    right: jax.Array,
    ids: jax.Array,
    scale: jax.Array,
    bias: jax.Array | float = 0.0,
    kind: Kind = "info_nce",
    form: Form = "gathered",
) -> jax.Array:
    """As contrastive_loss, but nothing is normalised: logits are scale * the product of two rows + bias."""
    functions: dict[tuple[Kind, Form], Callable[..., jax.Array]] = {
        ("info_nce", "dense"): info_nce,
        ("info_nce", "gathered"): _gathered(_info_nce_rows),
        ("info_nce", "ring"): ring_info_nce,
        ("sigmoid", "dense"): sigmoid,
        ("sigmoid", "gathered"): _gathered(_sigmoid_rows),
        ("sigmoid", "ring"): ring_sigmoid,
    }
    values = (jnp.asarray(scale, jnp.float32), jnp.asarray(bias, jnp.float32))
    return functions[kind, form](left, right, ids, *values)


def soft_targets(rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Weight of each column among a row's positives: (n,), (m,) -> (n, m), rows sum to 1."""
    same = (rows[:, None] == columns[None, :]).astype(jnp.float32)
    # A row without positives among the columns then has weights of 0, not NaN.
    return same / jnp.maximum(same.sum(-1, keepdims=True), 1.0)


def scale_from_temperature(temperature: jax.Array, least: float, most: float = float("inf")) -> jax.Array:
    """1 / the temperature clamped to [least, most]; the gradient passes as if it lay inside.

    The originals clamp the parameter in place before each step, so the optimizer acts on the clamped
    value and the gradient is that at the clamped value.
    """
    # jnp.clip alone has no gradient outside its bounds, so a temperature that left them could never return.
    clamped = temperature + jax.lax.stop_gradient(jnp.clip(temperature, least, most) - temperature)
    return 1.0 / clamped


def scale_gradient(x: jax.Array, factor: float) -> jax.Array:
    """`x`, with its gradient times `factor`: 1 / processes is what the released gather amounts to."""
    # The released gather hands each process the gradient of its own rows alone, and the mean over processes
    # then divides it: embeddings learn 1 / processes of the true gradient, the temperature all of it. Hence
    # the factor is on the embeddings, not on the loss.
    return factor * x + jax.lax.stop_gradient((1.0 - factor) * x)


class Embedded(NamedTuple):
    """Unit rows (n, D) that belong together one by one, and their ids (n,)."""

    left: jax.Array
    right: jax.Array
    ids: jax.Array


RowLosses = Callable[[Embedded, Embedded, jax.Array, jax.Array], jax.Array]


def info_nce(
    left: jax.Array, right: jax.Array, ids: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """Mean of both directions' cross entropies with soft targets; unit rows (N, D)."""
    rows = Embedded(left, right, ids)
    return _info_nce_rows(rows, rows, scale, bias).mean()


def sigmoid(
    left: jax.Array, right: jax.Array, ids: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """Sigmoid loss: each pair is classified by itself, a row sums its pairs; unit rows (N, D)."""
    rows = Embedded(left, right, ids)
    return _sigmoid_rows(rows, rows, scale, bias).mean()


def _info_nce_rows(rows: Embedded, whole: Embedded, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Loss of each of some rows (n,), both directions, against all of them."""
    targets = soft_targets(rows.ids, whole.ids)

    def direction(queries: jax.Array, keys: jax.Array) -> jax.Array:
        logits = scale * (queries @ keys.T) + bias
        return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)

    return (direction(rows.left, whole.right) + direction(rows.right, whole.left)) / 2


def _sigmoid_rows(rows: Embedded, whole: Embedded, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Loss of each of some left rows (n,) against all right ones."""
    sign = jnp.where(rows.ids[:, None] == whole.ids[None, :], 1.0, -1.0)
    # Summed over columns and averaged over rows, as SigLIP does: each row has one
    # positive however large the batch is.
    return -jnp.sum(jax.nn.log_sigmoid(sign * (scale * (rows.left @ whole.right.T) + bias)), axis=-1)


def _gathered(row_losses: RowLosses) -> Callable[..., jax.Array]:
    """The mean over rows, each device computing its own rows against the gathered ones."""

    def loss(
        left: jax.Array, right: jax.Array, ids: jax.Array, scale: jax.Array, bias: jax.Array
    ) -> jax.Array:
        axes, rows = batch_axes(), Embedded(left, right, ids)
        if not axes:
            return row_losses(rows, rows, scale, bias).mean()

        def local(rows: Embedded, scale: jax.Array, bias: jax.Array) -> jax.Array:
            # The ids travel with the embeddings, so positives are found between the
            # rows of different devices too.
            whole = jax.lax.all_gather(rows, axes, tiled=True)
            return jax.lax.pmean(row_losses(rows, whole, scale, bias).mean(), axes)

        # The mean over devices is taken inside and the gradient outside, where it is right with and without
        # jax's check of what varies over devices; a gradient taken inside is silently wrong without it.
        split, one = PartitionSpec(axes), PartitionSpec()
        return jax.shard_map(local, in_specs=(split, one, one), out_specs=one)(rows, scale, bias)

    return loss
