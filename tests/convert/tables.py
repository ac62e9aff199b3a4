"""Whole checkpoints through a family's table, without detection: what most tests of models start from."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ivjax.convert.engine.matching import match
from ivjax.convert.engine.rows import Row, original_tensors, unflatten
from ivjax.convert.formats.tensors import Arrays
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
