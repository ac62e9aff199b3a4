"""Weights for models in memory: out of original files and of this project's own, and back to disk."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ivjax.convert.detection import FORMAT, recognise
from ivjax.convert.engine import Row, flatten, unflatten
from ivjax.convert.families import family_named
from ivjax.convert.files import open_tensors
from ivjax.convert.fits import Fitting
from ivjax.convert.matching import Plan, Wanted, match
from ivjax.convert.planning import Choices, plan
from ivjax.convert.report import Report
from ivjax.convert.tensors import Arrays, Shape, Tensors
from ivjax.convert.writing import SHARD_BYTES, write_safetensors
from ivjax.ops.resize import Grid, Inflation

__all__ = ["Imported", "import_into", "import_weights", "save_weights"]


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
    planned = plan(open_tensors(Path(path)), str(path), choices, _shapes(target), grid)
    planned.report.check(str(path))
    leaves = {lazy.name: lazy.read() for lazy in planned.lazies(init)}
    return Imported(unflatten(leaves), planned.report, planned.sizes)


def import_into(path: Path | str, target: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Leaves of `target` by path, as far as a weight file or a run folder holds them."""
    folder, shapes = Path(path).expanduser(), _shapes(target)
    if (folder / "checkpoints").is_dir():
        tensors, found = _of_run(folder, shapes)
    else:
        opened = recognise(open_tensors(folder), str(path))
        fitting = Fitting(frames=opened.family.frames)
        tensors, found = opened.tensors, opened.plan(Wanted(shapes, fitting=fitting, partial=True))
    found.report.check(str(path))
    return {leaf.path: leaf.lazy(tensors).read() for leaf in found.leaves}


def _of_run(folder: Path, shapes: Mapping[str, Shape] | None) -> tuple[Tensors, Plan]:
    from ivjax.train.checkpoint import restore_params  # orbax is slow to import

    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    leaves = Arrays(dict(flatten(restore_params(folder, here))))
    return leaves, match([Row(name, name) for name in leaves], leaves, Wanted(shapes, partial=True))


def save_weights(
    path: Path | str,
    params: Mapping[str, Any],
    family: str,
    sizes: Any,
    preset: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Writes parameters of a model of `sizes` in this project's format; gives the files."""
    kind, leaves = family_named(family), Arrays(dict(flatten(params)))
    found = match(kind.own_rows(), leaves, Wanted(kind.shapes(sizes)))
    found.report.check("these parameters")
    lazies = [leaf.lazy(leaves) for leaf in found.leaves]
    return write_safetensors(Path(path), lazies, metadata(family, sizes, preset), shard_bytes)


def metadata(family: str, sizes: Any, preset: str | None) -> dict[str, str]:
    """What this project's files say of themselves."""
    described = json.dumps(dataclasses.asdict(sizes))
    return {"format": FORMAT, "family": family, "preset": preset or "", "sizes": described}


def _shapes(tree: Mapping[str, Any] | None) -> dict[str, Shape] | None:
    return None if tree is None else {path: tuple(leaf.shape) for path, leaf in flatten(tree)}
