"""From a file and a user's choices to the leaves that are to be read, or to what is wrong."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from ivjax.convert.detection import Opened, nearest_preset, preset_named, recognise
from ivjax.convert.engine.fits import Fitting
from ivjax.convert.engine.matching import Plan, Wanted
from ivjax.convert.engine.report import Report
from ivjax.convert.formats.tensors import Lazy, Shape, Tensors
from ivjax.errors import UserError
from ivjax.experiment.overrides import apply_overrides
from ivjax.ops.resize import Grid, Inflation
from ivjax.ops.trees import paths_of

_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Choices:
    """What a user may say of a file; what is left out is found.

    family, preset: what the file is. overrides: other sizes than the preset's (`vision.frames=16`).
    fresh: patterns of tree paths that are initialised. dtype: floats are cast to it. frames: the times that
    a joint position table in the file stands for. inflate: how image kernels become video kernels.
    """

    family: str | None = None
    preset: str | None = None
    overrides: Sequence[str] = ()
    fresh: Sequence[str] = ()
    dtype: str | None = None
    frames: int | None = None
    inflate: Inflation = "centre"


@dataclass(frozen=True)
class Planned:
    """A file compared with a model. `sizes` and `preset` are None where the model was given by its shapes."""

    opened: Opened
    plan: Plan
    target: Mapping[str, Shape]
    sizes: Any
    preset: str | None
    dtype: np.dtype | None

    @property
    def report(self) -> Report:
        """The report on everything."""
        return self.plan.report

    def lazies(self, init: Callable[[], Any] | None = None) -> list[Lazy]:
        """All leaves in the model's order, still to be read; fresh ones come from `init`."""
        if init is None and self.sizes is not None:
            init = functools.partial(self.opened.family.init, self.sizes)
        made = {leaf.path: leaf.lazy(self.opened.tensors) for leaf in self.plan.leaves}
        made |= _initialised(init, self.report.fresh, self.dtype)
        return [made[path] for path in self.target]


def plan(
    tensors: Tensors,
    what: str,
    choices: Choices = Choices(),
    target: Mapping[str, Shape] | None = None,
    grid: Grid | None = None,
) -> Planned:
    """Compares tensors with a model: `target` (shapes by path, patch grid `grid`), or the sizes chosen."""
    opened = recognise(tensors, what, choices.family)
    family, dtype = opened.family, _dtype(choices.dtype)
    frames = (choices.frames,) if choices.frames else opened.frames
    wanted = Wanted(target, choices.fresh, dtype=dtype, fitting=Fitting(grid, frames, choices.inflate))
    sizes = preset = None
    if target is None:
        sizes, preset = _sizes(opened, choices, wanted)
        target, grid = family.shapes(sizes), family.grid(sizes)
        wanted = replace(wanted, target=target, fitting=replace(wanted.fitting, grid=grid))
    found = opened.plan(wanted)
    faults = (*found.report.faults, *_unequal(opened.tensors, found.report.ties))
    report = replace(found.report, preset=preset, faults=faults)
    return Planned(opened, replace(found, report=report), target, sizes, preset, dtype)


def _sizes(opened: Opened, choices: Choices, wanted: Wanted) -> tuple[Any, str]:
    """Sizes of the model that the file is to fit, and the name they go by."""
    stored = opened.stored_sizes() if choices.preset is None else None
    if stored is not None:
        sizes, preset = stored, opened.tensors.metadata.get("preset", "")
    else:
        preset = choices.preset or nearest_preset(opened, wanted)
        sizes = preset_named(opened.family, preset)
    changed = apply_overrides(sizes, choices.overrides)
    return changed, preset if changed == sizes else f"{preset} with {' '.join(choices.overrides)}"


def _unequal(tensors: Tensors, ties: Mapping[str, str]) -> list[str]:
    """Tied copies that differ from what they repeat."""
    return [
        f"{alias} differs from {owner}, which it must repeat; remove the wrong one"
        for alias, owner in ties.items()
        if tensors[alias].tobytes() != tensors[owner].tobytes()
    ]


def _initialised(
    init: Callable[[], Any] | None, paths: Sequence[str], dtype: np.dtype | None
) -> dict[str, Lazy]:
    """The leaves at `paths` as `init` makes them; compiled, so that the others are never computed."""
    if not paths:
        return {}
    if init is None:
        raise UserError(f"{', '.join(paths)} are to be fresh: give the init that makes them")

    def chosen() -> dict[str, Any]:
        leaves = dict(paths_of(init()))
        return {path: leaves[path] for path in paths}

    made = {path: np.asarray(leaf) for path, leaf in jax.jit(chosen)().items()}
    return {path: _of_array(path, leaf, dtype or leaf.dtype) for path, leaf in made.items()}


def _of_array(path: str, array: np.ndarray, dtype: np.dtype) -> Lazy:
    return Lazy(path, array.shape, dtype, lambda: [array])


def _dtype(name: str | None) -> np.dtype | None:
    if name is not None and name not in _DTYPES:
        raise UserError(f"weights cannot be cast to {name!r} here; choose {' or '.join(_DTYPES)}")
    return None if name is None else np.dtype(name)
