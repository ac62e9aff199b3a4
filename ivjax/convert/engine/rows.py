"""A family's table: one row for each kind of tensor, applied in both directions.

A row maps one tensor of the original, or with `{i}` in its name one tensor for each layer, to one leaf of the
parameter tree; layers are stacked on a leading axis. With `{part}` in its name, a row takes several tensors
of each layer, such as queries, keys and values, and stacks them on the next axis. `matching` decides on
shapes alone what fits; here the tensors are moved, one at a time.
"""

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np

from ivjax.convert.engine.fits import Change, Fit
from ivjax.convert.formats.tensors import LazyTensor, Shape, Tensors
from ivjax.errors import UserError

LAYER = "{i}"
PART = "{part}"


@dataclass(frozen=True)
class Transform:
    """The change between an original tensor and a leaf (of one layer).

    Attributes:
        load: original tensor -> leaf. It must be a view (reshape, transpose), because shapes are found by
            applying it to an array that occupies one byte.
        save: leaf -> original tensor, likewise.
    """

    load: Callable[[np.ndarray], np.ndarray]
    save: Callable[[np.ndarray], np.ndarray]

    def loaded_shape(self, shape: Shape) -> Shape:
        """Returns the shape of the leaf of an original tensor; raises ValueError if there is none."""
        return self.load(_hollow(shape)).shape

    def saved_shape(self, shape: Shape) -> Shape:
        """Returns the shape of the original tensor of a leaf."""
        return self.save(_hollow(shape)).shape


SAME = Transform(lambda x: x, lambda x: x)
TRANSPOSE = Transform(np.transpose, np.transpose)


@dataclass(frozen=True)
class Row:
    """One line of a family's table.

    Attributes:
        source: name of the original tensor, with `{i}` for the layer and `{part}` for one of the parts.
        target: path of the leaf in the parameter tree.
        transform: how one becomes the other.
        fit: the rule by which a tensor of another shape may be made to fit; None for no rule.
        parts: the words that stand for `{part}`, in the order in which the leaf holds them.
        step: the original has such a tensor in every so many layers, from layer 0 on; the leaf stacks those.
        last_of: path of a stack with all layers, if the original has such a tensor in its last layers only.
        first: the first layer that has one.
    """

    source: str
    target: str
    transform: Transform = field(default=SAME)
    fit: Fit | None = None
    parts: tuple[str, ...] = ()
    step: int = 1
    last_of: str | None = None
    first: int = 0

    @property
    def layered(self) -> bool:
        """Whether the leaf has a leading layer axis."""
        return LAYER in self.source

    @functools.cached_property
    def sources(self) -> list[str]:
        """The original names, with `{i}` for the layer: one for each part."""
        return [self.source.replace(PART, part) for part in self.parts] or [self.source]

    def count(self, leaf: Shape) -> int:
        """Returns the number of original tensors of a leaf: its layers times its parts."""
        return (leaf[0] if self.layered else 1) * len(self.sources)

    def name(self, place: int) -> str:
        """Returns the original name of a place: parts count fastest, then layers."""
        layer, part = divmod(place, len(self.sources))
        return self.sources[part].replace(LAYER, str(self.first + layer * self.step))

    def place_of(self, name: str) -> int | None:
        """Returns the place of a name of this row, 0 for a row without layers and parts; else None."""
        for part, pattern in enumerate(self._patterns):
            if found := pattern.fullmatch(name):
                layer, between = divmod(int(found[1]) - self.first if self.layered else 0, self.step)
                return None if between or layer < 0 else layer * len(self.sources) + part
        return None

    # Kept: every name of a file is looked up for each of up to 48 presets.
    @functools.cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        # At most six digits without leading zeros: int() of an attacker's million digits would take minutes.
        number = r"(0|[1-9]\d{0,5})"
        return [re.compile(re.escape(name).replace(re.escape(LAYER), number)) for name in self.sources]

    @property
    def _stacked(self) -> int:
        """The number of leading axes of a leaf that count its tensors."""
        return int(self.layered) + bool(self.parts)

    def behind(self, all_layers: int, own: int) -> "Row":
        """Returns the row of a leaf that stacks the last `own` of `all_layers` layers."""
        return replace(self, first=all_layers - own)

    def source_shape(self, leaf: Shape) -> Shape:
        """Returns the shape of each original tensor of a leaf."""
        return self.transform.saved_shape(leaf[self._stacked :])

    def leaf_shape(self, source: Shape, count: int) -> Shape:
        """Returns the shape of the leaf of `count` original tensors; raises ValueError if there is none."""
        layers = (count // len(self.sources),) if self.layered else ()
        parts = (len(self.parts),) if self.parts else ()
        return (*layers, *parts, *self.transform.loaded_shape(source))

    def saved(self, leaves: Tensors, place: int) -> np.ndarray:
        """Returns the original tensor of a place, out of leaves by path."""
        layer, part = divmod(place, len(self.sources))
        # Layer by layer: the stack of a large model need not fit in memory.
        leaf = leaves.layer(self.target, layer) if self.layered else leaves[self.target]
        return self.transform.save(leaf[part] if self.parts else leaf)


@dataclass(frozen=True)
class Leaf:
    """A leaf that is known to fit.

    Attributes:
        path: its path in the parameter tree.
        shape: its shape, layers included.
        dtype: the dtype that it is read in.
        row: the row of the table that it comes by.
        names: the original tensors, in the order of their places.
        changes: original name -> what makes a tensor of another shape fit.
    """

    path: str
    shape: Shape
    dtype: np.dtype
    row: Row
    names: tuple[str, ...]
    changes: Mapping[str, Change]

    def lazy(self, tensors: Tensors) -> LazyTensor:
        """Returns the leaf, still to be read."""
        return LazyTensor(self.path, self.shape, self.dtype, functools.partial(self._layers, tensors))

    def _layers(self, tensors: Tensors) -> Iterator[np.ndarray]:
        for name in self.names:
            tensor = tensors[name]
            # First the change, then the transform: rules are about the original's shapes.
            if name in self.changes:
                tensor = self.changes[name].apply(tensor)
            yield self.row.transform.load(tensor)


class Table:
    """A table of rows, searched by original name or by path.

    Several rows may lead to one path, because releases of a model name the same tensor differently. The first
    of them is used for writing.
    """

    def __init__(self, rows: Iterable[Row]):
        rows = tuple(rows)
        self._by_source = {source: row for row in rows for source in row.sources}
        self.by_target: dict[str, Row] = {}
        for row in rows:
            self.by_target.setdefault(row.target, row)
        # A mistake in a family's table, not in a file, hence no UserError.
        if len(self._by_source) < sum(len(row.sources) for row in rows):
            raise ValueError("two rows of the table take the same tensor")

    def find(self, name: str) -> tuple[Row, int] | None:
        """Returns the row that takes tensor `name`, and the place in it; None if no row does."""
        for source in _possible_sources(name):
            row = self._by_source.get(source)
            if row and (place := row.place_of(name)) is not None:
                return row, place
        return None


# Kept: each name of a file is looked up in the tables of all families.
@functools.lru_cache(maxsize=1 << 16)
def _possible_sources(name: str) -> tuple[str, ...]:
    """Returns what a row may call tensor `name`: any of its numbers may be the layer, or none."""
    layered = (name[: n.start()] + LAYER + name[n.end() :] for n in re.finditer(r"\d+", name))
    return name, *layered


def original_tensors(
    rows: Iterable[Row],
    leaves: Tensors,
    ties: Mapping[str, str] | None = None,
    without: Collection[str] = (),
) -> Sequence[LazyTensor]:
    """Returns the original tensors of leaves by path, still to be read.

    Args:
        rows: the family's table.
        leaves: parameters by path; a row must write each of them.
        ties: copy -> the original tensor that it repeats.
        without: paths of leaves that the originals have no place for.
    """
    table = Table(rows)
    unknown = sorted(set(leaves) - table.by_target.keys() - set(without))
    if unknown:
        raise UserError(f"original files have no place for these parameters: {', '.join(unknown)}")
    lazies = {
        lazy.name: lazy
        for row in table.by_target.values()
        if row.target in leaves
        for lazy in _saved(row, leaves)
    }
    copies = {alias: lazies[owner] for alias, owner in (ties or {}).items() if owner in lazies}
    return [
        *lazies.values(),
        *(LazyTensor(alias, lazy.shape, lazy.dtype, lazy.chunks) for alias, lazy in copies.items()),
    ]


def _saved(row: Row, leaves: Tensors) -> Iterator[LazyTensor]:
    whole, dtype = leaves.shape(row.target), leaves.dtype(row.target)
    if row.last_of is not None:
        row = row.behind(leaves.shape(row.last_of)[0], whole[0])
    shape = row.source_shape(whole)

    def chunks(place: int) -> Iterator[np.ndarray]:
        yield row.saved(leaves, place)

    for place in range(row.count(whole)):
        yield LazyTensor(row.name(place), shape, dtype, functools.partial(chunks, place))


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dict of leaves by path."""
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
    """Returns an array of any shape that occupies one byte of memory."""
    return np.broadcast_to(np.zeros((), np.uint8), shape)
