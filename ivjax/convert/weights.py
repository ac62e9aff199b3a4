"""Weights of whole models in memory: read from any file, and written in this project's format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivjax.convert.comparison import ImportChoices, compare
from ivjax.convert.engine.match_report import MatchReport
from ivjax.convert.engine.rows import unflatten
from ivjax.convert.origins import open_weights, shapes_by_path
from ivjax.models.sizes import Grid
from ivjax.ops.resize import Inflation


@dataclass(frozen=True)
class Imported:
    """Weights that were read from a file.

    Attributes:
        params: nested dicts of numpy arrays.
        report: where each of them came from.
        sizes: the sizes of their model; None where the model was given by its shapes.
    """

    params: dict[str, Any]
    report: MatchReport
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
    sizes: Any = None,
    overrides: Sequence[str] = (),
) -> Imported:
    """Reads a file of the originals or of this project. Names and shapes are checked before bytes are read.

    Args:
        path: the file.
        family: what the file is; found by its tensors' names if left out.
        preset: the released size; the nearest if left out.
        fresh: patterns of parameter paths that are initialised instead of read.
        dtype: floats are cast to it; kept as stored if left out.
        target: a tree of arrays or shapes that replaces the preset; position tables are resized to it.
        init: makes the fresh parameters of `target`; jax must be able to trace it.
        grid: the patch grid (T, H, W) of `target`, where its shapes leave a choice.
        frames: the frames that the file's joint position table stands for, where its shape leaves a choice.
        inflate: how image kernels become video kernels.
        sizes: sizes of the model, in place of a preset.
        overrides: other sizes than the preset's, such as `vision.frames=16`.
    """
    choices = ImportChoices(family, preset, overrides, fresh, dtype, frames, inflate, sizes)
    shapes = None if target is None else shapes_by_path(target)
    compared = compare(open_weights(path), str(path), choices, shapes, grid)
    compared.report.check(str(path))
    leaves = {leaf.name: leaf.read() for leaf in compared.leaves(init)}
    return Imported(unflatten(leaves), compared.report, compared.sizes)
