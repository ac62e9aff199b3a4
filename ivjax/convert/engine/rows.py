"""A family's table of rows, applied in both directions.

A row maps one source tensor, or with `{i}` in its name one tensor per layer, to one leaf of the
parameter tree; layers are stacked on a leading axis. What fits and what does not is decided in
`matching`, on shapes alone; here tensors are moved, one at a time.
"""

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from ivjax.convert.engine.fits import Change, Fit
from ivjax.convert.formats.tensors import Lazy, Shape, Tensors
from ivjax.errors import UserError

LAYER = "{i}"


@dataclass(frozen=True)
class Transform:
    """How a source tensor becomes a leaf (of one layer), and back; views, so that shapes cost nothing."""

    load: Callable[[np.ndarray], np.ndarray]
    save: Callable[[np.ndarray], np.ndarray]

    def loaded_shape(self, shape: Shape) -> Shape:
        """Shape of the leaf of a source tensor; ValueError if there is none."""
        return self.load(_hollow(shape)).shape

    def saved_shape(self, shape: Shape) -> Shape:
        """Shape of the source tensor of a leaf."""
        return self.save(_hollow(shape)).shape


SAME = Transform(lambda x: x, lambda x: x)
TRANSPOSE = Transform(np.transpose, np.transpose)


@dataclass(frozen=True)
class Row:
    """One line of a family's table: source name (with `{i}` for the layer), tree path, transform, and by
    which rule a tensor of another shape may be made to fit."""

    source: str
    target: str
    transform: Transform = field(default=SAME)
    fit: Fit | None = None

    @property
    def layered(self) -> bool:
        """Whether the leaf has a leading layer axis."""
        return LAYER in self.source

    def name(self, layer: int) -> str:
        """Source name of a layer; without layers there is only layer 0."""
        return self.source.replace(LAYER, str(layer))

    def layer_of(self, name: str) -> int | None:
        """The layer number in `name` if it is one of this row's, 0 for a row without layers, else None."""
        pattern = re.escape(self.source).replace(re.escape(LAYER), r"(0|[1-9]\d{0,5})")
        found = re.fullmatch(pattern, name)
        return None if found is None else int(found[1]) if self.layered else 0

    def source_shape(self, leaf: Shape) -> Shape:
        """Shape of each source tensor of a leaf."""
        return self.transform.saved_shape(leaf[1:] if self.layered else leaf)


@dataclass(frozen=True)
class Leaf:
    """A leaf that is known to fit: where it comes from, layer by layer, and what must change."""

    path: str
    shape: Shape
    dtype: np.dtype
    row: Row
    names: tuple[str, ...]
    changes: Mapping[str, Change]

    def lazy(self, tensors: Tensors) -> Lazy:
        """The leaf, still to be read."""
        return Lazy(self.path, self.shape, self.dtype, functools.partial(self._parts, tensors))

    def _parts(self, tensors: Tensors) -> Iterator[np.ndarray]:
        for name in self.names:
            tensor = tensors[name]
            if name in self.changes:
                tensor = self.changes[name].apply(tensor)
            yield self.row.transform.load(tensor)


class Table:
    """A table of rows, searched from either side."""

    def __init__(self, rows: Iterable[Row]):
        rows = tuple(rows)
        self._by_source = {row.source: row for row in rows}
        self.by_target: dict[str, Row] = {}
        for row in rows:
            self.by_target.setdefault(row.target, row)
        if len(self._by_source) < len(rows):
            raise ValueError("two rows of the table take the same tensor")

    def find(self, name: str) -> tuple[Row, int] | None:
        """The row that takes tensor `name`, and the layer."""
        layered = (name[: n.start()] + LAYER + name[n.end() :] for n in re.finditer(r"\d+", name))
        for source in (name, *layered):
            row = self._by_source.get(source)
            if row and (layer := row.layer_of(name)) is not None:
                return row, layer
        return None


def original(
    rows: Iterable[Row],
    leaves: Tensors,
    ties: Mapping[str, str] | None = None,
    without: Collection[str] = (),
) -> Sequence[Lazy]:
    """The source tensors of leaves by tree path, still to be read; a row must write every leaf.

    Those in `without` may have none.
    """
    table = Table(rows)
    strange = sorted(set(leaves) - table.by_target.keys() - set(without))
    if strange:
        raise UserError(f"original files have no place for these parameters: {', '.join(strange)}")
    lazies = {
        lazy.name: lazy
        for row in table.by_target.values()
        if row.target in leaves
        for lazy in _saved(row, leaves)
    }
    copies = {alias: lazies[owner] for alias, owner in (ties or {}).items() if owner in lazies}
    return [
        *lazies.values(),
        *(Lazy(alias, lazy.shape, lazy.dtype, lazy.parts) for alias, lazy in copies.items()),
    ]


def _saved(row: Row, leaves: Tensors) -> Iterator[Lazy]:
    whole, dtype = leaves.shape(row.target), leaves.dtype(row.target)
    shape = row.source_shape(whole)

    def parts(layer: int) -> Iterator[np.ndarray]:
        leaf = leaves.layer(row.target, layer) if row.layered else leaves[row.target]
        yield row.transform.save(leaf)

    for layer in range(whole[0] if row.layered else 1):
        yield Lazy(row.name(layer), shape, dtype, functools.partial(parts, layer))


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict of leaves by path."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = leaf
    return tree


def is_float(dtype: np.dtype) -> bool:
    """Whether numbers of this dtype may be cast to another float dtype."""
    return dtype.kind == "f" or dtype == ml_dtypes.bfloat16


def _hollow(shape: Shape) -> np.ndarray:
    """An array of any shape in one byte of memory."""
    return np.broadcast_to(np.zeros((), np.uint8), shape)
