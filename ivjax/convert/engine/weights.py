"""Weights for models in memory: out of original files and of this project's own, and back to disk."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.convert.engine.detection import FORMAT, Opened, recognise
from ivjax.convert.engine.family import Family
from ivjax.convert.engine.fits import Fitting
from ivjax.convert.engine.matching import Wanted, match
from ivjax.convert.engine.planning import Choices, plan
from ivjax.convert.engine.report import Report
from ivjax.convert.engine.rows import unflatten
from ivjax.convert.families.all import FAMILIES, family_named, family_of_sizes, family_of_stage
from ivjax.convert.formats.chosen_classes import asks_for_classes, with_classes
from ivjax.convert.formats.safetensors_files import open_tensors
from ivjax.convert.formats.tensors import Arrays, Shape, Tensors
from ivjax.convert.formats.writing import SHARD_BYTES, write_safetensors
from ivjax.errors import UserError
from ivjax.experiment.storing import is_run, stored_experiment
from ivjax.ops.resize import Grid, Inflation
from ivjax.ops.trees import paths_of


@dataclass(frozen=True)
class Imported:
    """Parameters as nested dicts of numpy arrays, where each came from, and the sizes of their model, which
    are None where it was given by its shapes."""

    params: dict[str, Any]
    report: Report
    sizes: Any


def import_weights(
    path: Path | str,
    family: str | None = None,
    preset: str | None = None,
    fresh: Sequence[str] = (),
    dtype: str | None = None,
    target: Mapping[str, Any] | None = None,
    init: Callable[[], Any] | None = None,
    *,
    grid: Grid | None = None,
    frames: int | None = None,
    inflate: Inflation = "centre",
) -> Imported:
    """Reads a file of the originals or of this project; strictly, and shapes before bytes.

    `target` is a tree of arrays or shapes that overrides the preset; position tables are resized to it
    (`grid` is its patch grid, `frames` the times that the file's joint table stands for: needed where shapes
    leave a choice). Leaves that match a pattern of `fresh` come from `init`, which jax must be able to trace.
    """
    choices = Choices(family, preset, (), fresh, dtype, frames, inflate)
    planned = plan(open_weights(path), str(path), choices, _shapes(target), grid)
    planned.report.check(str(path))
    leaves = {lazy.name: lazy.read() for lazy in planned.lazies(init)}
    return Imported(unflatten(leaves), planned.report, planned.sizes)


def import_into(
    path: Path | str,
    target: Mapping[str, Any],
    grid: Grid | None = None,
    branch: str = "",
    kind: type | None = None,
) -> dict[str, np.ndarray]:
    """Leaves of `target` by path in its dtypes, as far as a weight file or a run folder holds them.

    Position tables are resized to `grid`. With `branch`, `target` is that branch of the file's tree. `kind`
    is what the sizes of the model at `target` are instances of: a file of another model is an error then,
    and so is one that holds nothing of it.
    """
    opened = _opened(Path(path).expanduser(), str(path), branch, kind)
    fitting = Fitting(grid, opened.frames)
    found = opened.plan(Wanted(_shapes(target), dtype=np.dtype(np.float32), fitting=fitting, partial=True))
    found.report.check(str(path))
    if kind and not found.leaves:
        raise UserError(f"{path} holds nothing of {f'its branch #{branch}' if branch else 'the model'}")
    dtypes = {place: np.dtype(leaf.dtype) for place, leaf in paths_of(target)}
    leaves = [replace(leaf, dtype=dtypes[leaf.path]) for leaf in found.leaves]
    return {leaf.path: leaf.lazy(opened.tensors).read() for leaf in leaves}


def _opened(path: Path, what: str, branch: str, kind: type | None) -> Opened:
    """A file or a run, or a branch of it; of families that fit alike, one that holds such a model."""
    likely = [family for family in FAMILIES.values() if kind and family.holds(kind, branch)]
    if branch and is_run(path):
        opened = recognise(_branch_of_run(path, branch), what, likely=likely)
        branch = ""
    else:
        opened = recognise(open_weights(path), what, likely=likely).at(branch)
    if kind and not opened.family.holds(kind, branch):
        raise UserError(f"{what} is of {opened.family.name}: {_other_choice(opened.family, what, kind)}")
    return opened


def _other_choice(family: Family, what: str, kind: type) -> str:
    """What to give instead of a file, or branch, that holds another model than wanted."""
    parts = [f"{what}#{branch}" for branch in family.branches if family.holds(kind, branch)]
    if parts:
        return f"write {' or '.join(parts)} for that part of it"
    return f"give a file of {' or '.join(other.name for other in FAMILIES.values() if other.kind is kind)}"


def open_weights(path: Path | str) -> Tensors:
    """The tensors of a weight file, or of a run folder under the names of this project's format.

    FILE?head=400, FILE?head=LIST.json or FILE?head=none has only some classes of a classifier's head.
    """
    if chosen := asks_for_classes(str(path)):
        file, asked = chosen
        return with_classes(open_weights(file), asked, file)
    folder = Path(path).expanduser()
    if not is_run(folder):
        return open_tensors(folder)
    from ivjax.convert.loading import params_of_run  # which loads files through this module

    experiment = stored_experiment(folder)
    found = family_of_stage(experiment.stage)
    if found is None:
        parts = ", ".join(f"{path}#{name}" for name in experiment.stage.encoders())
        raise UserError(
            f"{path} was trained as {type(experiment.stage).__name__}, which no family of files is of"
            + (f"; name a part of it: {parts}" if parts else "")
        )
    family, sizes = found
    names = {*family.shapes(sizes), *family.added}
    leaves = {path: leaf for path, leaf in paths_of(params_of_run(folder, experiment)) if path in names}
    return Arrays(leaves, metadata(family.name, sizes, None))


def _branch_of_run(folder: Path, branch: str) -> Tensors:
    """A part of what a run trained, as a file of its own family."""
    from ivjax.convert.loading import params_of_run

    experiment = stored_experiment(folder)
    sizes = experiment.stage.encoders().get(branch)
    family = None if sizes is None else family_of_sizes(sizes)
    if family is None:
        parts = ", ".join(experiment.stage.encoders()) or "none that can be taken alone"
        raise UserError(f"{folder} has no part #{branch}; its parts are {parts}")
    params = params_of_run(folder, experiment, branch=branch)
    return Arrays(dict(paths_of(params[branch])), metadata(family.name, sizes, None))


def save_weights(
    path: Path | str,
    params: Mapping[str, Any],
    family: str,
    sizes: Any,
    preset: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Writes parameters of a model of `sizes` in this project's format; gives the files."""
    kind, leaves = family_named(family), Arrays(dict(paths_of(params)))
    found = match(kind.own_rows(), leaves, Wanted(kind.shapes(sizes)))
    found.report.check("these parameters")
    lazies = [leaf.lazy(leaves) for leaf in found.leaves]
    return write_safetensors(Path(path), lazies, metadata(family, sizes, preset), shard_bytes)


def metadata(family: str, sizes: Any, preset: str | None) -> dict[str, str]:
    """What this project's files say of themselves."""
    described = json.dumps(dataclasses.asdict(sizes))
    return {"format": FORMAT, "family": family, "preset": preset or "", "sizes": described}


def _shapes(tree: Mapping[str, Any] | None) -> dict[str, Shape] | None:
    return None if tree is None else {path: tuple(leaf.shape) for path, leaf in paths_of(tree)}
