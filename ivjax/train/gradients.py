"""Loss and gradients of a batch, whole or in micro-batches: the same numbers either way."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.ops.cut import Params, joined
from ivjax.ops.slices import merge_rows, split_rows, sum_of_slices
from ivjax.stages.objective import Batch, Joint, Metrics, Objective

# The loss with its metrics, and the gradient of each trained parameter.
LossAndGradients = tuple[tuple[jax.Array, Metrics], Params]
# (trained, frozen, batch, key) -> loss and gradients.
Differentiate = Callable[[Params, Params, Batch, jax.Array], LossAndGradients]


def gradients_of(objective: Objective, micro_batches: int) -> Differentiate:
    """Returns f(trained, frozen, batch, key) -> ((loss, terms), gradients of what is trained)."""
    differentiate = _in_micro_batches(objective, micro_batches)
    return lambda trained, frozen, batch, key: differentiate(trained, frozen, objective.prepare(batch), key)


def _in_micro_batches(objective: Objective, micro_batches: int) -> Differentiate:
    if micro_batches == 1:
        return _whole(objective)
    if objective.joint is None:
        return _mean_of_micro_batches(objective, micro_batches)
    return _joint_in_micro_batches(objective.joint, micro_batches)


def _whole(objective: Objective) -> Differentiate:
    def loss(trained: Params, frozen: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return objective.loss(joined(trained, frozen), batch, key)

    # By `trained` alone: jax differentiates the first argument, so frozen parameters
    # have no gradients in memory.
    return jax.value_and_grad(loss, has_aux=True)


def _mean_of_micro_batches(objective: Objective, count: int) -> Differentiate:
    """For a loss that is a mean over the rows: the mean of the micro-batches' losses and gradients."""
    grad = _whole(objective)

    def differentiate(trained: Params, frozen: Params, batch: Batch, key: jax.Array) -> LossAndGradients:
        micro_batches = split_rows(dict(batch), count)
        total = sum_of_slices(lambda micro_batch: grad(trained, frozen, micro_batch, key), micro_batches)
        # The loss is a mean over rows and micro-batches are equally large, so the mean of means is the mean.
        return jax.tree.map(lambda x: x / count, total)

    return differentiate


def _joint_in_micro_batches(joint: Joint, count: int) -> Differentiate:
    """For a loss that compares clips, in three passes.

    First the rows of all clips, one micro-batch at a time, without keeping what led to them. Then the loss
    over all rows, and its gradient with respect to them. Then each micro-batch once more, to carry the
    gradients of its rows back to the parameters.
    """

    def differentiate(trained: Params, frozen: Params, batch: Batch, key: jax.Array) -> LossAndGradients:
        micro_batches = split_rows(dict(batch), count)
        # lax.map works on one micro-batch at a time, and so keeps the activations of one.
        rows = merge_rows(
            jax.lax.map(lambda b: joint.per_clip(joined(trained, frozen), b, key), micro_batches)
        )
        of_loss = jax.value_and_grad(
            lambda t, r: joint.loss(joined(t, frozen), r, batch, key), argnums=(0, 1), has_aux=True
        )
        # `direct` is what the loss takes from the parameters themselves: temperature and bias.
        value, (direct, of_rows) = of_loss(trained, rows)

        def back(micro_batch_and_gradient: Any) -> Params:
            micro_batch, gradient = micro_batch_and_gradient
            _, pull = jax.vjp(lambda t: joint.per_clip(joined(t, frozen), micro_batch, key), trained)
            return pull(gradient)[0]

        through = sum_of_slices(back, (micro_batches, split_rows(of_rows, count)))
        return value, jax.tree.map(jnp.add, direct, through)

    return differentiate
