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

Tree = Any  # arrays in nested dicts, at the places of the parameters


def init_moments(options: AdamW, params: Tree) -> Tree:
    """Returns zero moments for `params`."""
    return _adam(options).init(params)


def updated(
    options: AdamW,
    rules: Sequence[Rule],
    gradients: Tree,
    moments: Tree,
    params: Tree,
    lr: jax.Array,
    decay: jax.Array,
    rates: Mapping[str, float] = MappingProxyType({}),
    frozen: Tree = None,
) -> tuple[Tree, Tree, jax.Array]:
    """Takes one step: (new parameters, new moments, gradient norm before clipping).

    `rates` are factors of the learning rate by path, on top of layer decay. `frozen` are the parameters that
    are not trained; layer decay counts their layers too.
    """
    norm = optax.tree.norm(gradients)
    if options.clip is not None:
        # torch.nn.utils.clip_grad_norm_ adds the same 1e-6.
        factor = jnp.minimum(1.0, options.clip / (norm + 1e-6))
        gradients = jax.tree.map(lambda g: g * factor, gradients)
    directions, moments = _adam(options).update(gradients, moments)
    scales = layer_scales(params, options.layer_decay, rules, frozen)

    def moved(path: str, param: jax.Array, direction: jax.Array) -> jax.Array:
        # Decay is multiplied by the learning rate with its factors, as torch's AdamW does with lr_scale.
        shrink = decay * param if rule_of(rules, path).decays else 0.0
        return param - lr * rates.get(path, 1.0) * scales[path] * (direction + shrink)

    return map_with_path(moved, params, directions), moments, norm


def _adam(options: AdamW) -> optax.GradientTransformation:
    # Only the moments are optax's. Rates differ between the layers of one stacked leaf, which its masks and
    # labels, one per leaf, cannot say.
    return optax.scale_by_adam(b1=options.betas[0], b2=options.betas[1], eps=options.epsilon)


def layer_scales(params: Tree, rate: float, rules: Sequence[Rule], frozen: Tree = None) -> dict[str, Any]:
    """Learning-rate factor of each leaf of `params`: rate ** (n + 1 - id), with n blocks.

    id 0: parameters whose rule says `first`. id i + 1: block i of those with `stacked` (a vector along the
    stacked axis). All others learn at the full rate.
    """
    leaves = dict(paths_of(params))
    # Frozen blocks count: a layer below them learns as slowly as if they were trained.
    everything = leaves | dict(paths_of(frozen))
    depths = {path: rule_of(rules, path).depth for path in everything}
    stacks = {path: everything[path].shape[0] for path, depth in depths.items() if depth == "stacked"}
    counts = {stacks[path] for path in leaves if path in stacks}
    by_layer = {n: rate ** (n - jnp.arange(n)).astype(jnp.float32) for n in counts}

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
