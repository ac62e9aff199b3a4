"""Whole checkpoints through a family's table, without detection, and weights in this project's format."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.convert.engine.matching import MatchRequest, match
from ivjax.convert.engine.own_format import metadata
from ivjax.convert.engine.rows import Row, original_tensors, unflatten
from ivjax.convert.formats.tensors import Arrays
from ivjax.convert.formats.writing import SHARD_BYTES, write_safetensors
from ivjax.convert.registry import family_named
from ivjax.ops.trees import paths_of


def import_tensors(rows: Iterable[Row], tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Original tensors by name -> nested parameter dict of whatever sizes. A row must take every tensor."""
    source = Arrays(tensors)
    matched = match(rows, source)
    matched.report.check("these tensors")
    return unflatten({leaf.path: leaf.lazy(source).read() for leaf in matched.leaves})


def export_tensors(rows: Iterable[Row], params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Nested parameter dict -> tensors under their original names. The inverse of the import."""
    return {lazy.name: lazy.read() for lazy in original_tensors(rows, Arrays(dict(paths_of(params))))}


def save_weights(
    path: Path | str,
    params: Mapping[str, Any],
    family: str,
    sizes: Any,
    preset: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Writes the parameters of a model of `sizes` in this project's format; returns the files."""
    kind, leaves = family_named(family), Arrays(dict(paths_of(params)))
    found = match(kind.own_rows(), leaves, MatchRequest(kind.shapes(sizes)))
    found.report.check("these parameters")
    lazy = [leaf.lazy(leaves) for leaf in found.leaves]
    return write_safetensors(Path(path), lazy, metadata(family, sizes, preset), shard_bytes)
