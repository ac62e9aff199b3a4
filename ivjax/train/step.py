"""One optimizer step as a pure function of (state, batch)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.stages.objective import Batch, Metrics, Objective, Params
from ivjax.train.optimizer import AdamW
from ivjax.train.schedule import WarmupCosine

State = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What turns gradients into steps."""

    optimizer: AdamW
    schedule: WarmupCosine
    steps: int
    accumulate: int = 1
    ema: float | None = None
    seed: int = 0


def init_state(objective: Objective, recipe: Recipe) -> State:
    """A fresh state: parameters, moments, EMA if asked for, counters. Pure; jit it with shardings."""
    params = objective.init(jax.random.key(recipe.seed))
    state: State = {
        "step": jnp.zeros((), jnp.int32),
        "skipped": jnp.zeros((), jnp.int32),
        "params": params,
        "moments": recipe.optimizer.init(params),
    }
    return state if recipe.ema is None else state | {"ema": params}


def make_step(objective: Objective, recipe: Recipe) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """The step. A non-finite loss or gradient leaves everything but the counters as it was."""
    decay = WarmupCosine(
        recipe.optimizer.decay,
        recipe.optimizer.decay if recipe.optimizer.decay_end is None else recipe.optimizer.decay_end,
    )

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        key = jax.random.key(recipe.seed)
        (loss, terms), gradients = _gradients(objective, recipe.accumulate, state["params"], batch, key)
        lr = recipe.schedule.at(state["step"], recipe.steps)
        params, moments, norm = recipe.optimizer.update(
            gradients, state["moments"], state["params"], lr, decay.at(state["step"], recipe.steps)
        )
        changed = {"params": params, "moments": moments}
        if recipe.ema is not None:
            changed["ema"] = _average(state["ema"], params, recipe.ema)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        kept = {name: state[name] for name in changed}
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), changed, kept)
        new["step"] = state["step"] + 1
        new["skipped"] = state["skipped"] + jnp.where(finite, 0, 1)
        return new, {"loss": loss, **terms, "grad_norm": norm, "lr": lr, "finite": finite}

    return step


def _gradients(
    objective: Objective, accumulate: int, params: Params, batch: Batch, key: jax.Array
) -> tuple[tuple[jax.Array, Metrics], Params]:
    """Mean loss and gradients over the batch, in `accumulate` parts one after the other."""
    grad = jax.value_and_grad(objective.loss, has_aux=True)
    if accumulate == 1:
        return grad(params, batch, key)

    def micro(x: jax.Array) -> jax.Array:
        # Row r goes to part r % accumulate, so each device's rows stay on it.
        return jnp.moveaxis(x.reshape(-1, accumulate, *x.shape[1:]), 1, 0)

    parts = jax.tree.map(micro, dict(batch))
    first = jax.tree.map(lambda x: x[0], parts)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(grad, params, first, key))
    add = lambda total, part: (jax.tree.map(jnp.add, total, grad(params, part, key)), None)  # noqa: E731
    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda x: x / accumulate, total)


def _average(old: Params, new: Params, decay: float) -> Params:
    return jax.tree.map(lambda a, b: decay * a + (1.0 - decay) * b, old, new)
