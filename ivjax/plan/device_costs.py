"""Costs of one device in a step: FLOPs, bytes read, bytes sent, and the size of each value on it."""

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ivjax.plan.lifetimes import Frame, Value
from ivjax.plan.partitioning import Dims, Split, Splits

# TPUs store the two fastest dimensions of an array in tiles of at most 8 x 128.
_TILE_ROWS, _TILE_COLUMNS = 8, 128


@dataclass
class Costs:
    """Costs of one device in one step.

    Attributes:
        flops: two for each multiply-add of a matrix product.
        read: bytes of HBM that are read or written.
        sent: bytes sent by mesh axis, with ring algorithms.
        gathered: the share of `sent` that gathers split operands of matrix products.
        largest: bytes of the largest operand gathered along each axis.
        parked: bytes that are moved to host memory and fetched back later.
    """

    flops: float = 0.0
    read: float = 0.0
    sent: Counter[str] = field(default_factory=Counter)
    gathered: Counter[str] = field(default_factory=Counter)
    largest: dict[str, int] = field(default_factory=dict)
    parked: int = 0

    def add(self, other: "Costs", times: int = 1) -> None:
        """Adds `other`, multiplied by `times`."""
        self.flops += times * other.flops
        self.read += times * other.read
        self.parked += times * other.parked
        for mine, theirs in ((self.sent, other.sent), (self.gathered, other.gathered)):
            for axis, size in theirs.items():
                mine[axis] += times * size
        for axis, size in other.largest.items():
            self.largest[axis] = max(self.largest.get(axis, 0), size)


class SimulatedDevice(ABC):
    """One device of a mesh while a program is traced through it, with the costs so far.

    Args:
        sizes: devices by mesh axis.
        like: sorted shape of a parameter, or of one of its layers -> (shape, splits). A sum over the batch
            that has this shape is taken for its gradient, which is split as the parameter is.
        platform: "tpu", "gpu" or "cpu". On "tpu" arrays are padded to tiles, and matrix products read
            elementwise operands and slices without storing them. On "cpu" instructions run as soon as their
            operands are ready, and operands that were gathered once are kept.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        like: Mapping[Dims, tuple[Dims, Splits]],
        platform: str = "tpu",
    ):
        self.axes = {axis: size for axis, size in sizes.items() if size > 1}
        self.like = like
        self.platform = platform
        self.costs = Costs()
        self._made: dict[Hashable, Value] = {}

    @abstractmethod
    def run(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Value], frame: Frame) -> list[Value]:
        """Costs a program inside `frame`; returns its results. Loops and kernels call it for their bodies."""

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Returns what `make` made when it was first called for this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def frame(self) -> Frame:
        """Returns an empty frame, whose steps run in the order of this platform."""
        return Frame(breadth_first=self.platform == "cpu")

    def ways(self, split: Split) -> int:
        """Returns how many devices share a dimension that is split like this."""
        return math.prod(self.axes.get(axis, 1) for axis in split)

    def value(self, aval: Any, splits: Splits, sources: frozenset[int] = frozenset()) -> Value:
        """Returns a value that is not stored, with its bytes on one device; 0 for values in host memory."""
        shape = shape_of(aval)
        kept = tuple(tuple(axis for axis in split if axis in self.axes) for split in splits)
        # Rounded up: XLA pads a dimension that its axis does not divide.
        local = tuple(-(-size // self.ways(split)) for size, split in zip(shape, kept, strict=True))
        width = getattr(getattr(aval, "dtype", None), "itemsize", 4)
        count = padded_count(local) if self.platform == "tpu" else math.prod(local)
        return Value(shape, kept, 0 if on_host(aval) else count * width, sources)

    def count(self, operands: Sequence[Value], results: Sequence[Value]) -> None:
        """Adds the bytes that an instruction reads and writes."""
        self.costs.read += sum(v.bytes for v in operands) + sum(v.bytes for v in results)

    def send(self, axis: str, size: float) -> int:
        """Adds, and returns, the bytes that a device sends when a ring along `axis` moves `size` bytes."""
        ways = self.axes[axis]
        sent = round(size * (ways - 1) / ways)
        self.costs.sent[axis] += sent
        return sent

    def gather(self, axis: str, whole: int) -> None:
        """Adds the traffic of gathering an operand along `axis` to `whole` bytes."""
        self.costs.gathered[axis] += self.send(axis, whole)
        self.costs.largest[axis] = max(self.costs.largest.get(axis, 0), whole)

    def gradient_splits(self, shape: Dims, found: Splits) -> Splits | None:
        """Returns the splits of the parameter that has this shape, in any order of dimensions, or None."""
        # Sorted, because a gradient comes out of its product with the dimensions in another order.
        like = self.like.get(tuple(sorted(shape)))
        if like is None or any(axis for split in found for axis in split):
            return None
        rest, splits = list(zip(*like, strict=True)), []
        for size in shape:
            match = next(entry for entry in rest if entry[0] == size)
            rest.remove(match)
            splits.append(match[1])
        return tuple(splits)


def shape_of(aval: Any) -> Dims:
    """Returns the shape of an abstract value; () for one without a shape."""
    return tuple(int(size) for size in getattr(aval, "shape", ()))


def on_host(aval: Any) -> bool:
    """Whether an abstract value is in host memory."""
    return getattr(getattr(aval, "memory_space", None), "name", "") == "Host"


# All pairs of dimensions are tried, and many values of a step share a shape.
@functools.cache
def padded_count(shape: tuple[int, ...]) -> int:
    """Returns the elements that a TPU stores for `shape`, in the order of dimensions that pads it least."""
    count = math.prod(shape)
    if len(shape) < 2 or count == 0:
        return count
    padded = (
        count
        // (shape[i] * shape[j])
        * _rounded_up(shape[i], _TILE_COLUMNS)
        * _rounded_up(shape[j], _tile_rows(shape[j]))
        for i, j in itertools.permutations(range(len(shape)), 2)
    )
    return min(padded)


def _tile_rows(size: int) -> int:
    """Returns the rows of a tile: a dimension below eight gets 1, 2 or 4."""
    return min(_TILE_ROWS, 1 << (size - 1).bit_length())


def _rounded_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
