"""The parameters that a run starts from: drawn from its seed, or read from weight files."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ivjax.ops.cut import Cut, Params, cut
from ivjax.ops.trees import map_with_path, paths_of
from ivjax.stages.objective import Objective


def shapes_of(objective: Objective, dtype: Any) -> Cut:
    """Returns the shapes of what is trained, in float32, and of what is frozen, in `dtype`."""
    trained, frozen = cut(jax.eval_shape(lambda: objective.init(jax.random.key(0))), objective.frozen)
    # In `dtype`, because what is never updated needs no float32 copy: teachers take half of the memory.
    return Cut(trained, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), frozen))


def starting_params(
    objective: Objective, shapes: Params, read: Mapping[str, np.ndarray], seed: int, shardings: Params
) -> Params:
    """Returns parameters of `shapes`, placed by `shardings` (a tree like it).

    Those in `read` (path -> array) are taken from there; the others are drawn from `seed`.
    """
    wanted, places = dict(paths_of(shapes)), dict(paths_of(shardings))
    fresh = [path for path in wanted if path not in read]

    def draw(seed: jax.Array) -> dict[str, jax.Array]:
        drawn = dict(paths_of(objective.init(jax.random.key(seed))))
        # All are drawn and some returned: the compiler drops the others, and each keeps the draw that
        # it has when nothing is read.
        return {path: drawn[path].astype(wanted[path].dtype) for path in fresh}

    # The seed is an argument, so that all seeds share one compiled program.
    compiled = jax.jit(draw, out_shardings={path: places[path] for path in fresh})
    placed = compiled(np.int64(seed)) if fresh else {}
    for path in wanted.keys() - placed.keys():
        rows = functools.partial(_part, read[path], wanted[path].dtype)
        # Each process cuts out, and casts, no more than what its own devices hold.
        placed[path] = jax.make_array_from_callback(wanted[path].shape, places[path], rows)
    return map_with_path(lambda path, _: placed[path], shapes)


def _part(whole: np.ndarray, dtype: Any, place: Any) -> np.ndarray:
    return whole[place].astype(dtype)
