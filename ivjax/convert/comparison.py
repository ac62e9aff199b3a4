"""Compares a file with the model that the user chose, before anything is read."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import jax
import numpy as np

from ivjax.convert.detection import OpenedFile, nearest_preset, preset_named, recognise
from ivjax.convert.engine.fits import Fitting
from ivjax.convert.engine.match_report import MatchReport
from ivjax.convert.engine.matching import Match, MatchRequest
from ivjax.convert.formats.tensors import LazyTensor, Shape, Tensors
from ivjax.convert.registry import FAMILIES
from ivjax.errors import UserError
from ivjax.experiment.listing import show
from ivjax.experiment.overrides import apply_overrides
from ivjax.models.sizes import Grid
from ivjax.ops.resize import Inflation
from ivjax.ops.trees import paths_of

_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class ImportChoices:
    """The options with which a user describes a file. Those left out are detected.

    Attributes:
        family: the checkpoint family.
        preset: the released size.
        overrides: other sizes than the preset's, such as `vision.frames=16`.
        fresh: patterns of parameter paths that are initialised instead of read.
        dtype: floats are cast to it; None keeps them as stored.
        frames: the frames that a joint position table in the file stands for.
        inflate: how image kernels become video kernels.
        sizes: sizes of the family's models, in place of a preset.
        allow_non_finite: whether NaN and infinities are read as they are.
    """

    family: str | None = None
    preset: str | None = None
    overrides: Sequence[str] = ()
    fresh: Sequence[str] = ()
    dtype: str | None = None
    frames: int | None = None
    inflate: Inflation = "centre"
    sizes: Any = None
    allow_non_finite: bool = False


@dataclass(frozen=True)
class FileComparison:
    """A file compared with a model.

    Attributes:
        file: the file and its family.
        match: which tensors fill which parameters.
        target: shapes of the model's parameters by path.
        sizes: the model's sizes; None where it was given by its shapes.
        preset: the name of these sizes; None where it was given by its shapes.
        dtype: floats are cast to it; None keeps them as stored.
    """

    file: OpenedFile
    match: Match
    target: Mapping[str, Shape]
    sizes: Any
    preset: str | None
    dtype: np.dtype | None

    @property
    def report(self) -> MatchReport:
        """The report on every tensor and every parameter."""
        return self.match.report

    def leaves(self, init: Callable[[], Any] | None = None) -> list[LazyTensor]:
        """Returns all parameters in the model's order, still to be read; fresh ones come from `init`."""
        if init is None and self.sizes is not None:
            init = functools.partial(self.file.family.init, self.sizes)
        made = {leaf.path: leaf.lazy(self.file.tensors) for leaf in self.match.leaves}
        made |= _initialised(init, self.report.fresh, self.dtype)
        return [made[path] for path in self.target]


def compare(
    tensors: Tensors,
    what: str,
    choices: ImportChoices = ImportChoices(),
    target: Mapping[str, Shape] | None = None,
    grid: Grid | None = None,
) -> FileComparison:
    """Compares tensors with a model: `target` (shapes by path) of patch grid `grid`, or the sizes chosen.

    `what` is the file's name in errors.
    """
    likely = [family for family in FAMILIES.values() if family.fits(choices.sizes)]
    file = recognise(tensors, what, choices.family, likely)
    family, dtype = file.family, _dtype(choices.dtype)
    frames = (choices.frames,) if choices.frames else file.frames
    fitting = Fitting(grid, frames, choices.inflate)
    wanted = MatchRequest(target, choices.fresh, dtype=dtype, fitting=fitting)
    sizes = preset = None
    if target is None:
        sizes, preset = _sizes(file, choices, wanted)
        target, grid = family.shapes(sizes), family.grid(sizes)
        wanted = replace(wanted, target=target, fitting=replace(wanted.fitting, grid=grid))
    file = file.unpacked(choices.sizes if sizes is None else sizes)
    found = file.match(wanted)
    # The only tensors that are read for a comparison: of two that are tied, shapes
    # cannot tell that they agree.
    conflicts = (*found.report.conflicts, *_unequal_copies(file.tensors, found.report.ties))
    report = replace(found.report, preset=preset, conflicts=conflicts)
    return FileComparison(file, replace(found, report=report), target, sizes, preset, dtype)


def _sizes(file: OpenedFile, choices: ImportChoices, wanted: MatchRequest) -> tuple[Any, str]:
    """Returns the sizes of the model that the file is to fit, and what they are called."""
    if choices.sizes is not None:
        return _given_sizes(file, choices), "of given sizes"
    stored = file.stored_sizes() if choices.preset is None else None
    if stored is not None:
        # A file of this project names its sizes, which may be those of no preset.
        sizes, preset = stored, file.tensors.metadata.get("preset", "")
    elif choices.preset is None and (configured := file.configured()):
        sizes, preset = configured
    else:
        preset = choices.preset or nearest_preset(file, wanted)
        sizes = preset_named(file.family, preset)
    if not file.in_own_format:
        sizes, preset = _measured(file, sizes, preset)
    changed = apply_overrides(sizes, choices.overrides)
    if choices.overrides and file.family.language is not None:
        _check(changed)
    return changed, preset if changed == sizes else f"{preset} with {' '.join(choices.overrides)}"


def _check(sizes: Any) -> None:
    """Raises if sizes that a user has changed are impossible."""
    try:
        sizes.check("sizes")
    except UserError as error:
        # Of a config's stage the sizes are a part; here they are the whole.
        raise UserError(str(error).replace("stage.sizes.", "").replace("stage.sizes: ", "")) from None


def _measured(file: OpenedFile, sizes: Any, preset: str) -> tuple[Any, str]:
    """Returns the sizes with what only the file's tensors tell, and what they are called then."""
    found = file.family.measured(sizes, file.unpacked(sizes).tensors)
    if found == sizes:
        return sizes, preset
    return found, f"{preset} with {' and '.join(_differences(sizes, found))}"


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Returns what a file tells of the sizes, by dotted path."""
    told = []
    for field in fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after:
            continue
        if is_dataclass(before) and type(before) is type(after):
            told += _differences(before, after, f"{path}{field.name}.")
        else:
            told.append(f"{path}{field.name}={show(after)} instead of {show(before)}, as in the file")
    return told


def _given_sizes(file: OpenedFile, choices: ImportChoices) -> Any:
    family, given = file.family, choices.sizes
    if choices.preset is not None or choices.overrides:
        raise UserError("sizes take the place of a preset and of overrides; give one of them")
    if not family.fits(given):
        raise UserError(
            f"the file is of {family.name}, whose sizes are a {family.kind.__name__}, not a "
            f"{type(given).__name__}; give those, or name another family"
        )
    return given


def _unequal_copies(tensors: Tensors, ties: Mapping[str, str]) -> list[str]:
    """Returns an error for each tied copy that differs from what it repeats."""
    # As bytes: a NaN differs from itself, and a tensor of them may well be tied.
    return [
        f"{alias} differs from {owner}, which it must repeat; remove the wrong one"
        for alias, owner in ties.items()
        if tensors[alias].tobytes() != tensors[owner].tobytes()
    ]


def _initialised(
    init: Callable[[], Any] | None, paths: Sequence[str], dtype: np.dtype | None
) -> dict[str, LazyTensor]:
    """Returns the parameters at `paths` as `init` makes them."""
    if not paths:
        return {}
    if init is None:
        raise UserError(f"{', '.join(paths)} are to be fresh: give the init that makes them")

    def chosen() -> dict[str, Any]:
        leaves = dict(paths_of(init()))
        return {path: leaves[path] for path in paths}

    # Compiled, because the compiler drops the parameters that are not asked for before they are computed.
    made = {path: np.asarray(leaf) for path, leaf in jax.jit(chosen)().items()}
    return {path: _of_array(path, leaf, dtype or leaf.dtype) for path, leaf in made.items()}


def _of_array(path: str, array: np.ndarray, dtype: np.dtype) -> LazyTensor:
    return LazyTensor(path, array.shape, dtype, lambda: [array])


def _dtype(name: str | None) -> np.dtype | None:
    if name is not None and name not in _DTYPES:
        raise UserError(f"weights cannot be cast to {name!r} here; choose {' or '.join(_DTYPES)}")
    return None if name is None else np.dtype(name)
