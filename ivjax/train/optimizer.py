"""AdamW with the objective's rules: what decays, layer-wise learning rates, clipping by global norm.

All rules go by parameter path, never by rank: in a scanned stack a bias has two axes.
"""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ivjax.experiment.rules import Rule, rule_of
from ivjax.experiment.run_options import AdamW
from ivjax.ops.trees import map_with_path, paths_of

Tree = Any


def init_moments(params: Tree) -> optax.ScaleByAdamState:
    """Returns zero moments for `params`."""
    return optax.scale_by_adam().init(params)


def updated(
    options: AdamW,
    rules: Sequence[Rule],
    gradients: Tree,
    moments: optax.ScaleByAdamState,
    params: Tree,
    lr: jax.Array,
    decay: jax.Array,
    rates: Mapping[str, float] = MappingProxyType({}),
) -> tuple[Tree, optax.ScaleByAdamState, jax.Array]:
    """Takes one step: (new parameters, new moments, gradient norm before clipping).

    `rates` are factors of the learning rate by path, on top of layer decay.
    """
    norm = optax.tree.norm(gradients)
    # torch.nn.utils.clip_grad_norm_ adds the same 1e-6.
    clip = None if options.clip is None else jnp.minimum(1.0, options.clip / (norm + 1e-6))
    count = moments.count + 1
    first, second = options.betas
    # The moments start at zero: these take the bias towards it out of them.
    unbias_first, unbias_second = 1 - first**count, 1 - second**count

    # Jitted, so that leaves of one shape are traced and lowered once. optax's own update takes each leaf by
    # itself, and was a third of a small model's program.
    @jax.jit
    def moved(
        rate: jax.Array,
        decay: jax.Array | None,
        param: jax.Array,
        gradient: jax.Array,
        mu: jax.Array,
        nu: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        gradient = gradient if clip is None else gradient * clip
        mu = (1 - first) * gradient + first * mu
        nu = (1 - second) * gradient**2 + second * nu
        direction = (mu / unbias_first) / (jnp.sqrt(nu / unbias_second) + options.epsilon)
        # Decay is multiplied by the learning rate with its factors, as torch's AdamW does with lr_scale.
        shrink = 0.0 if decay is None else decay * param
        return param - rate * (direction + shrink), mu, nu

    scales = layer_scales(params, options.layer_decay, rules)

    def at(path: str, *leaves: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        rate = lr * rates.get(path, 1.0) * scales[path]
        return moved(rate, decay if rule_of(rules, path).decays else None, *leaves)

    found = map_with_path(at, params, gradients, moments.mu, moments.nu)
    new, mu, nu = jax.tree.transpose(jax.tree.structure(params), None, found)
    return new, optax.ScaleByAdamState(count, mu, nu), norm


def layer_scales(params: Tree, rate: float, rules: Sequence[Rule]) -> dict[str, Any]:
    """Learning-rate factor of each leaf: rate ** (n + 1 - id), with n blocks.

    id 0: parameters whose rule says `first`. id i + 1: block i of those with `stacked` (a vector along the
    stacked axis). All others learn at the full rate.
    """
    leaves = dict(paths_of(params))
    depths = {path: rule_of(rules, path).depth for path in leaves}
    stacks = {path: leaves[path].shape[0] for path, depth in depths.items() if depth == "stacked"}
    by_layer = {n: rate ** (n - jnp.arange(n)).astype(jnp.float32) for n in set(stacks.values())}

    def scale(path: str, leaf: Any) -> Any:
        if depths[path] == "stacked":
            return by_layer[leaf.shape[0]].reshape(-1, *[1] * (leaf.ndim - 1))
        if depths[path] == "first" and stacks:
            return rate ** (stacks[_nearest(path, stacks)] + 1)
        return 1.0

    return {path: scale(path, leaf) for path, leaf in leaves.items()}


def _nearest(path: str, stacks: dict[str, int]) -> str:
    """The stack above a parameter: of the stacks of several models, the one whose path begins most alike."""
    return max(stacks, key=lambda stack: len(os.path.commonprefix([path.split("/"), stack.split("/")])))
