"""Digests of arrays: one that comes back from a disk with other bits is noticed."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ivjax.ops.trees import path_name, paths_of

# Even numbers without a pattern, one for each axis.
_EVEN = np.array([0x9E3779B2, 0x85EBCA76, 0xC2B2AE3E, 0x27D4EB2E, 0x165667B2], np.uint32)


def array_digests(tree: Any, part: Any = None) -> dict[str, int]:
    """Returns a number of 32 bits for each array, by path; they do not depend on how arrays lie on devices.

    One changed element always changes its array's number; more of them do but once in 2^32 cases. `part` is
    a tree that recurs in `tree`, such as the parameters in a state: its program is compiled once for all.
    """
    structure: Any = jax.tree.structure(part)
    parts = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: structure == jax.tree.structure(x))
    # All are under way before the first is waited for.
    found = [(path_name(path), part, _digests(jax.tree.leaves(part))) for path, part in parts]
    digests: dict[str, int] = {}
    for path, part, numbers in found:
        names = [f"{path}/{name}".strip("/") for name, _ in paths_of(part)]
        digests |= dict(zip(names, np.asarray(numbers).tolist(), strict=True))
    return digests


@jax.jit
def _digests(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([_digest(leaf) for leaf in leaves])


def _digest(x: jax.Array) -> jax.Array:
    width = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
    sums = lax.bitcast_convert_type(x, width).astype(jnp.uint32)
    # Weighted by odd numbers, by which no change of one element is multiplied to nothing, and of which no two
    # places have the same. The first axis first: along it CPUs add five times as fast as all at once.
    for axis, even in zip(range(x.ndim), itertools.cycle(_EVEN)):
        weights = jnp.arange(x.shape[axis], dtype=jnp.uint32) * even + np.uint32(1)
        sums = jnp.sum(sums * weights.reshape(-1, *[1] * (sums.ndim - 1)), axis=0, dtype=jnp.uint32)
    return sums
