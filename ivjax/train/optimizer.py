"""AdamW with the family's rules: what decays, layer-wise learning rates, clipping by global norm.

All rules go by parameter name, never by rank: in a scanned stack a bias has two axes.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ivjax.experiment.options import AdamW
from ivjax.ops.trees import map_with_path, paths_of

Tree = Any

_FIRST_LAYER = re.compile(r"(patch_embed/\w+|cls_token|pos_embed/table)")


def init_moments(options: AdamW, params: Tree) -> Tree:
    """Returns zero moments for `params`."""
    return _adam(options).init(params)


def updated(
    options: AdamW, gradients: Tree, moments: Tree, params: Tree, lr: jax.Array, decay: jax.Array
) -> tuple[Tree, Tree, jax.Array]:
    """Takes one step: (new parameters, new moments, gradient norm before clipping)."""
    norm = optax.global_norm(gradients)
    if options.clip is not None:
        factor = jnp.minimum(1.0, options.clip / (norm + 1e-6))
        gradients = jax.tree.map(lambda g: g * factor, gradients)
    directions, moments = _adam(options).update(gradients, moments)
    scales = layer_scales(params, options.layer_decay)

    def moved(path: str, param: jax.Array, direction: jax.Array) -> jax.Array:
        shrink = decay * param if decays(path) else 0.0
        return param - lr * scales[path] * (direction + shrink)

    return map_with_path(moved, params, directions), moments, norm


def _adam(options: AdamW) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=options.betas[0], b2=options.betas[1], eps=options.epsilon)


def decays(path: str) -> bool:
    """Whether weight decay applies: to kernels and words, not to biases, norms, tables or class tokens."""
    return path.rsplit("/", 1)[-1] in ("kernel", "word_embed")


def layer_scales(params: Tree, rate: float) -> dict[str, Any]:
    """Learning-rate factor of each leaf: rate ** (n + 1 - id), with n blocks.

    id 0: patch embedding, class token, joint position table. id i + 1: block i (a vector along the
    stacked axis). Everything else, separable position tables included, learns at the full rate.
    """
    leaves = dict(paths_of(params))
    depths = {path.split("blocks/")[0]: leaf.shape[0] for path, leaf in leaves.items() if "blocks/" in path}

    def scale(path: str, leaf: Any) -> Any:
        if "blocks/" in path:
            steps_up = leaf.shape[0] - jnp.arange(leaf.shape[0])
            return (rate ** steps_up.astype(jnp.float32)).reshape(-1, *[1] * (leaf.ndim - 1))
        for prefix, depth in depths.items():
            if path.startswith(prefix) and _FIRST_LAYER.fullmatch(path.removeprefix(prefix)):
                return rate ** (depth + 1)
        return 1.0

    return {path: scale(path, leaf) for path, leaf in leaves.items()}
