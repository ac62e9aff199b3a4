"""Original tensors that hold the rows of several parameters: queries, keys and values in one, for example.

A table names part `q` of tensor X as `X[q]`. Files are seen through `Unpacked`, which has these names in
place of X; what is written under them is joined again. So rows and reports know single parameters alone.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ivjax.convert.engine.rows import Row
from ivjax.convert.formats.tensors import LazyTensor, Shape, Tensors
from ivjax.errors import UserError

# Sizes of a model -> the rows of the packed tensor that are a part's, in the part's order.
PartRows = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Packed:
    """A tensor of the originals that holds several parameters.

    Attributes:
        source: its name, with `{i}` for the layer.
        parts: name of each part -> its rows of the tensor. They depend on sizes that the shape does not tell,
            such as how many heads there are. None: the part is the whole tensor, which all parts share.
    """

    source: str
    parts: Mapping[str, PartRows | None]

    @functools.cached_property
    def names(self) -> Row:
        """Reads and writes the name."""
        return Row(self.source, "")

    def rows(self, sizes: Any, part: str) -> np.ndarray | None:
        """Returns the rows of a part; None for all."""
        rows = self.parts[part]
        return None if rows is None else rows(sizes)

    def total(self, sizes: Any) -> int | None:
        """Returns the rows of the whole tensor; None if its parts share it."""
        found = [self.rows(sizes, part) for part in self.parts]
        return sum(len(rows) for rows in found if rows is not None) or None

    def below(self, prefix: str, sizes_of: Callable[[Any], Any]) -> "Packed":
        """Returns the same for a model that has this one's tensors under a prefix, and its sizes inside."""

        def inner(rows: PartRows | None) -> PartRows | None:
            return None if rows is None else lambda sizes: rows(sizes_of(sizes))

        return Packed(f"{prefix}{self.source}", {part: inner(rows) for part, rows in self.parts.items()})


def part_names(packed: Iterable[Packed], name: str) -> list[str]:
    """Returns the names that a tensor of a file has in a table."""
    for pack in packed:
        if pack.names.place_of(name) is not None:
            return [f"{name}[{part}]" for part in pack.parts]
    return [name]


def whole_name(name: str) -> str:
    """Returns the name of the tensor in a file that a name of a table is, or is a part of."""
    return name.partition("[")[0]


class Unpacked(Tensors):
    """The tensors of `whole`, of which the packed ones appear as their parts, for a model of `sizes`."""

    def __init__(self, whole: Tensors, packed: Sequence[Packed], sizes: Any):
        self._whole, self._sizes = whole, sizes
        self._origins: dict[str, tuple[str, Packed | None, str]] = {}
        for name in whole:
            pack = next((pack for pack in packed if pack.names.place_of(name) is not None), None)
            if pack is None:
                self._origins[name] = (name, None, "")
            else:
                self._origins |= {f"{name}[{part}]": (name, pack, part) for part in pack.parts}
        # Rows are listed once for all layers.
        self._rows = {(pack.source, p): pack.rows(sizes, p) for pack in packed for p in pack.parts}
        self._totals = {pack.source: pack.total(sizes) for pack in packed}
        self.container, self.metadata, self.config = whole.container, whole.metadata, whole.config

    def _found(self, name: str) -> tuple[str, np.ndarray | None]:
        """Returns the tensor that a name is of, and its rows there; None for all of them."""
        origin, pack, part = self._origins[name]
        if pack is None or self._whole.shape(origin)[:1] != (self._totals[pack.source],):
            # A tensor of another size than the model's is shown whole, so that its shape is called wrong.
            return origin, None
        return origin, self._rows[pack.source, part]

    def shape(self, name: str) -> Shape:
        origin, rows = self._found(name)
        shape = self._whole.shape(origin)
        return shape if rows is None else (len(rows), *shape[1:])

    def dtype(self, name: str) -> np.dtype:
        return self._whole.dtype(self._origins[name][0])

    def __getitem__(self, name: str) -> np.ndarray:
        origin, rows = self._found(name)
        tensor = self._whole[origin]
        return tensor if rows is None else tensor[rows]

    def __contains__(self, name: object) -> bool:
        return name in self._origins

    def __iter__(self) -> Iterator[str]:
        return iter(self._origins)

    def __len__(self) -> int:
        return len(self._origins)


def packed_again(tensors: Sequence[LazyTensor], packed: Sequence[Packed], sizes: Any) -> list[LazyTensor]:
    """Returns the tensors of a file out of those under a table's names: parts become whole tensors."""
    wholes: dict[str, dict[str, LazyTensor]] = {}
    packs: dict[str, Packed] = {}
    for tensor in tensors:
        name, bracket, part = tensor.name.removesuffix("]").rpartition("[")
        pack = next((p for p in packed if bracket and p.names.place_of(name) is not None), None)
        wholes.setdefault(name if pack else tensor.name, {})[part if pack else ""] = tensor
        if pack:
            packs[name] = pack
    return [
        _whole(name, packs[name], parts, sizes) if name in packs else parts[""]
        for name, parts in wholes.items()
    ]


def _whole(name: str, pack: Packed, parts: Mapping[str, LazyTensor], sizes: Any) -> LazyTensor:
    if missing := [part for part in pack.parts if part not in parts]:
        raise UserError(f"{name} holds {', '.join(pack.parts)}, and the model has no {missing[0]}")
    first, total = next(iter(parts.values())), pack.total(sizes)
    join = _shared if total is None else _joined
    shape = (total or first.shape[0], *first.shape[1:])
    return replace(first, name=name, shape=shape, chunks=lambda: [join(name, pack, parts, sizes)])


def _joined(name: str, pack: Packed, parts: Mapping[str, LazyTensor], sizes: Any) -> np.ndarray:
    first = next(iter(parts.values()))
    whole = np.empty((pack.total(sizes) or 0, *first.shape[1:]), first.dtype)
    for part, tensor in parts.items():
        whole[pack.rows(sizes, part)] = tensor.read()
    return whole


def _shared(name: str, pack: Packed, parts: Mapping[str, LazyTensor], sizes: Any) -> np.ndarray:
    first, *others = (tensor.read() for tensor in parts.values())
    if any(other.tobytes() != first.tobytes() for other in others):
        raise UserError(
            f"{', '.join(pack.parts)} share {name} in the original and differ here, trained apart; "
            "merge the factors into the kernels first"
        )
    return first
