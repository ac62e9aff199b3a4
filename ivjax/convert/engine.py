"""Applies a family's table of rows, in both directions, strictly.

A row maps one source tensor, or with `{i}` in its name one tensor per layer, to one leaf of the
parameter tree; layers are stacked on a leading axis.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ivjax.errors import UserError

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Transform:
    """How a source tensor becomes a leaf, and back; `shape` is the source's shape for a leaf's shape."""

    load: Callable[[np.ndarray], np.ndarray]
    save: Callable[[np.ndarray], np.ndarray]


SAME = Transform(lambda x: x, lambda x: x)
TRANSPOSE = Transform(np.transpose, np.transpose)


@dataclass(frozen=True)
class Row:
    """One line of a family's table: source name (with `{i}` for the layer), tree path, transform."""

    source: str
    target: str
    transform: Transform = field(default=SAME)

    def layer_of(self, name: str) -> int | None:
        """The layer number in `name` if it is one of this row's, 0 for a row without layers, else None."""
        pattern = re.escape(self.source).replace(re.escape("{i}"), r"(\d+)")
        match = re.fullmatch(pattern, name)
        return None if match is None else int(match[1]) if match.groups() else 0


def import_tensors(rows: Iterable[Row], tensors: Tensors) -> dict[str, Any]:
    """Source tensors -> nested parameter dict. Every tensor must be matched by exactly one row."""
    tree: dict[str, Any] = {}
    unused = set(tensors)
    for row in rows:
        layers = {layer: name for name in tensors if (layer := row.layer_of(name)) is not None}
        if not layers:
            continue
        if sorted(layers) != list(range(len(layers))):
            raise UserError(f"{row.source}: layers {sorted(layers)} are not 0..n-1; the file is incomplete")
        unused -= set(layers.values())
        parts = [row.transform.load(np.asarray(tensors[layers[i]])) for i in range(len(layers))]
        _insert(tree, row.target, np.stack(parts) if "{i}" in row.source else parts[0])
    if unused:
        raise UserError(f"no row of the table takes these tensors: {', '.join(sorted(unused))}")
    return tree


def export_tensors(rows: Iterable[Row], params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Nested parameter dict -> source tensors under their original names. The inverse of the import."""
    tensors: dict[str, np.ndarray] = {}
    leaves = dict(flatten(params))
    for row in rows:
        if row.target not in leaves:
            continue
        leaf = np.asarray(leaves.pop(row.target))
        parts = enumerate(leaf) if "{i}" in row.source else [(0, leaf)]
        for i, part in parts:
            tensors[row.source.format(i=i)] = row.transform.save(part)
    if leaves:
        raise UserError(f"no row of the table writes these parameters: {', '.join(sorted(leaves))}")
    return tensors


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """(path, leaf) pairs of a nested dict, paths joined by slashes."""
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}/")
        else:
            yield path, value


def _insert(tree: dict[str, Any], path: str, leaf: np.ndarray) -> None:
    *parents, name = path.split("/")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    if name in tree:
        raise UserError(f"two rows of the table fill {path}")
    tree[name] = leaf
