"""Loss and gradients of a batch, whole or in parts one after the other: the same numbers either way."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.stages.objective import Batch, Joint, Metrics, Objective, Params
from ivjax.train.freeze import joined

Result = tuple[tuple[jax.Array, Metrics], Params]
Differentiate = Callable[[Params, Params, Batch, jax.Array], Result]


def gradients_of(objective: Objective, parts: int) -> Differentiate:
    """f(trained, frozen, batch, key) -> ((loss, terms), gradients of what is trained), in `parts` parts."""
    if parts == 1:
        return _whole(objective)
    if objective.joint is None:
        return _mean_of_parts(objective, parts)
    return _joint_in_parts(objective.joint, parts)


def _whole(objective: Objective) -> Differentiate:
    def loss(trained: Params, frozen: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        return objective.loss(joined(trained, frozen), batch, key)

    return jax.value_and_grad(loss, has_aux=True)


def _mean_of_parts(objective: Objective, parts: int) -> Differentiate:
    """For a loss that is a mean over the rows: the mean of the parts' losses and gradients."""
    grad = _whole(objective)

    def differentiate(trained: Params, frozen: Params, batch: Batch, key: jax.Array) -> Result:
        cut = _cut(dict(batch), parts)
        total = _summed(lambda part: grad(trained, frozen, part, key), cut)
        return jax.tree.map(lambda x: x / parts, total)

    return differentiate


def _joint_in_parts(joint: Joint, parts: int) -> Differentiate:
    """For a loss that compares rows: all rows first, part by part and without keeping what led to them;
    then the loss over all of them; then each part once more, for what its rows' gradients come from.
    """

    def differentiate(trained: Params, frozen: Params, batch: Batch, key: jax.Array) -> Result:
        cut = _cut(dict(batch), parts)
        rows = _whole_again(jax.lax.map(lambda p: joint.rows(joined(trained, frozen), p, key), cut))
        of_loss = jax.value_and_grad(
            lambda t, r: joint.loss(joined(t, frozen), r, batch), argnums=(0, 1), has_aux=True
        )
        value, (direct, of_rows) = of_loss(trained, rows)

        def back(part_and_gradient: Any) -> Params:
            part, gradient = part_and_gradient
            _, pull = jax.vjp(lambda t: joint.rows(joined(t, frozen), part, key), trained)
            return pull(gradient)[0]

        through = _summed(back, (cut, _cut(of_rows, parts)))
        return value, jax.tree.map(jnp.add, direct, through)

    return differentiate


def _cut(rows: Any, parts: int) -> Any:
    """Row r goes to part r % parts, so that each device's rows stay on it."""
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), rows)


def _whole_again(cut: Any) -> Any:
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), cut)


def _summed(function: Callable[[Any], Any], cut: Any) -> Any:
    """The sum of function(part) over the parts, one at a time."""
    first = jax.tree.map(lambda x: x[0], cut)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first))
    total, _ = jax.lax.scan(lambda t, part: (jax.tree.map(jnp.add, t, function(part)), None), zeros, cut)
    return total
