"""One optimizer step as a pure function of (state, frozen parameters, batch)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Recipe
from ivjax.experiment.rules import Rule, rule_of
from ivjax.experiment.run_options import AdamW
from ivjax.experiment.schedules import WarmupCosine
from ivjax.ops.cut import Params
from ivjax.ops.trees import map_with_path
from ivjax.stages.objective import MOMENTUM, Batch, Metrics, Objective
from ivjax.train.gradients import gradients_of
from ivjax.train.optimizer import init_moments, updated

State = dict[str, Any]  # all that a step changes: parameters, moments, averages and counters


def init_state(params: Params, recipe: Recipe) -> State:
    """The state before the first step: parameters, moments, EMA if asked for, counters. Pure."""
    state: State = {
        # A counter of our own, because optax keeps one in each transform that counts,
        # and none counts skipped steps.
        "step": jnp.zeros((), jnp.int32),
        "skipped": jnp.zeros((), jnp.int32),
        "params": params,
        "moments": init_moments(recipe.optimizer, params),
    }
    return state if recipe.ema is None else state | {"ema": params}


def decay_schedule(options: AdamW) -> WarmupCosine:
    """Returns the schedule of the weight decay: along a cosine to its end, or constant without one."""
    return WarmupCosine(options.decay, options.decay if options.decay_end is None else options.decay_end)


def make_step(
    objective: Objective, recipe: Recipe
) -> Callable[[State, Params, Batch], tuple[State, Metrics]]:
    """step(state, frozen, batch). A non-finite loss or gradient leaves all but the counters as it was."""
    decay = decay_schedule(recipe.optimizer)

    def step(state: State, frozen: Params, batch: Batch) -> tuple[State, Metrics]:
        # The same key at every step: what is drawn depends on it and on the index of each clip, so that a
        # clip meets the same draw on any mesh, in any micro-batch and after a restart.
        key = jax.random.key(recipe.seed)
        differentiate = gradients_of(objective, recipe.accumulate)
        (loss, terms), gradients = differentiate(state["params"], frozen, batch, key)
        if objective.frozen_layers:
            # Before the norm is taken: frozen layers must not decide how much the others are clipped.
            zeros = jax.tree.map(jnp.zeros_like, gradients)
            gradients = _with_frozen(gradients, zeros, objective)
        lr = recipe.schedule.at(state["step"], recipe.steps, jnp)
        params, moments, norm = updated(
            recipe.optimizer,
            objective.rules,
            gradients,
            state["moments"],
            state["params"],
            lr,
            decay.at(state["step"], recipe.steps, jnp),
            objective.rates,
            frozen,
        )
        # Restored after the update too, because weight decay moves a parameter without any gradient.
        params = _with_frozen(params, state["params"], objective)
        # As the originals clamp in place, so the value in a checkpoint is the one in use.
        params = _bounded(params, objective.rules)
        params = _with_running(params, state["params"], {path: terms.pop(path) for path in objective.running})
        changed = {"params": params, "moments": moments}
        if recipe.ema is not None:
            changed["ema"] = _average(state["ema"], params, recipe.ema)
        # Chosen on the devices. A branch on the host would have to wait for every step.
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        kept = {name: state[name] for name in changed}
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), changed, kept)
        new["step"] = state["step"] + 1
        new["skipped"] = state["skipped"] + jnp.where(finite, 0, 1)
        return new, {"loss": loss, **terms, "grad_norm": norm, "lr": lr, "finite": finite}

    return step


def _bounded(params: Params, rules: Sequence[Rule]) -> Params:
    """Parameters whose rule has bounds, clipped to them; the others as they are."""

    def clipped(path: str, x: jax.Array) -> jax.Array:
        bounds = rule_of(rules, path).bounds
        return x if bounds is None else jnp.clip(x, *bounds)

    return map_with_path(clipped, params)


def _with_frozen(new: Params, old: Params, objective: Objective) -> Params:
    """`new`, but `old` in the layers that `objective.frozen_layers` names."""

    def chosen(path: str, new: jax.Array, old: jax.Array) -> jax.Array:
        first = objective.frozen_layers_of(path)
        return new.at[:first].set(old[:first]) if first else new

    return map_with_path(chosen, new, old)


def _with_running(new: Params, old: Params, statistics: Mapping[str, jax.Array]) -> Params:
    """`new`, but at the paths of `statistics` `old` moved on towards them."""

    def chosen(path: str, new: jax.Array, old: jax.Array) -> jax.Array:
        return old + MOMENTUM * (statistics[path] - old) if path in statistics else new

    return map_with_path(chosen, new, old)


def _average(old: Params, new: Params, decay: float) -> Params:
    return jax.tree.map(lambda a, b: decay * a + (1.0 - decay) * b, old, new)
