"""Digests of arrays: one that comes back from a disk with other bits is noticed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ivjax.ops.trees import path_name, paths_of

# Odd numbers without a pattern: multiplying by one loses no bit.
_ODD = np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1], np.uint32)


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
    mixed = lax.bitcast_convert_type(x, width).astype(jnp.uint32)
    # Each operation can be undone, so that elements which differ stay different; the sum wraps around.
    for axis in range(x.ndim):
        place = lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        mixed = (mixed ^ (place * _ODD[axis % len(_ODD)])) * _ODD[(axis + 1) % len(_ODD)]
        mixed = mixed ^ (mixed >> 15)
    return jnp.sum(mixed, dtype=jnp.uint32)
