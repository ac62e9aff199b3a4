"""What one device does in a step: multiply-adds, bytes read, bytes sent, and how large values are on it."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ivjax.plan.lifetimes import Frame, Value
from ivjax.plan.partitioning import Shape, Split, Splits
from ivjax.plan.tiles import padded_count


@dataclass
class Costs:
    """Of one device and one step. `sent` is by mesh axis, in ring counts; `read` are bytes of HBM.

    `gathered` is the part of `sent` that makes operands of products whole, and `largest` the bytes of the
    largest such operand; `parked` are the bytes that go to host memory to be fetched back.
    """

    flops: float = 0.0
    read: float = 0.0
    sent: Counter[str] = field(default_factory=Counter)
    gathered: Counter[str] = field(default_factory=Counter)
    largest: dict[str, int] = field(default_factory=dict)
    parked: int = 0

    def add(self, other: "Costs", times: int = 1) -> None:
        """Adds `other`, so many times."""
        self.flops += times * other.flops
        self.read += times * other.read
        self.parked += times * other.parked
        for mine, theirs in ((self.sent, other.sent), (self.gathered, other.gathered)):
            for axis, size in theirs.items():
                mine[axis] += times * size
        for axis, size in other.largest.items():
            self.largest[axis] = max(self.largest.get(axis, 0), size)


class Device(ABC):
    """One of the devices of a mesh, and the books of what it does.

    `sizes` are devices by mesh axis. `like` maps the sorted shape of a parameter (or of one of its layers)
    to (shape, splits): a sum over rows of that shape is its gradient and lies as it does. On "tpu" arrays
    are padded to tiles, and products take elementwise operands and slices without storing them; on "cpu"
    what is ready first runs first, and operands that are gathered once are kept.
    """

    def __init__(
        self, sizes: Mapping[str, int], like: Mapping[Shape, tuple[Shape, Splits]], platform: str = "tpu"
    ):
        self.axes = {axis: size for axis, size in sizes.items() if size > 1}
        self.like = like
        self.platform = platform
        self.costs = Costs()
        self._made: dict[Hashable, Value] = {}

    @abstractmethod
    def run(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Value], frame: Frame) -> list[Value]:
        """Walks through a program inside `frame`; returns its results. Loops and kernels call it in turn."""

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """What `make` made when it was first asked for under this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def frame(self) -> Frame:
        """A straight line of steps, in the order in which this platform runs them."""
        return Frame(breadth_first=self.platform == "cpu")

    def ways(self, split: Split) -> int:
        """Devices that share a dimension."""
        return math.prod(self.axes.get(axis, 1) for axis in split)

    def value(self, aval: Any, splits: Splits, sources: frozenset[int] = frozenset()) -> Value:
        """A value that is not stored; its bytes on one device (none of what lies in host memory)."""
        shape = shape_of(aval)
        held = tuple(tuple(axis for axis in split if axis in self.axes) for split in splits)
        local = tuple(-(-size // self.ways(split)) for size, split in zip(shape, held, strict=True))
        width = getattr(getattr(aval, "dtype", None), "itemsize", 4)
        count = padded_count(local) if self.platform == "tpu" else math.prod(local)
        return Value(shape, held, 0 if on_host(aval) else count * width, sources)

    def count(self, operands: Sequence[Value], results: Sequence[Value]) -> None:
        """Books what is read and written."""
        self.costs.read += sum(v.bytes for v in operands) + sum(v.bytes for v in results)

    def send(self, axis: str, size: float) -> int:
        """Books, and returns, the bytes that a ring along `axis` passes on of a whole of `size` bytes."""
        ways = self.axes[axis]
        sent = round(size * (ways - 1) / ways)
        self.costs.sent[axis] += sent
        return sent

    def gather(self, axis: str, whole: int) -> None:
        """Books that an operand is made whole along `axis`, into `whole` bytes."""
        self.costs.gathered[axis] += self.send(axis, whole)
        self.costs.largest[axis] = max(self.costs.largest.get(axis, 0), whole)

    def gradient_splits(self, shape: Shape, found: Splits) -> Splits | None:
        """The splits of the parameter that has this shape, in any order of its dimensions."""
        like = self.like.get(tuple(sorted(shape)))
        if like is None or any(axis for split in found for axis in split):
            return None
        rest, splits = list(zip(*like, strict=True)), []
        for size in shape:
            match = next(entry for entry in rest if entry[0] == size)
            rest.remove(match)
            splits.append(match[1])
        return tuple(splits)


def shape_of(aval: Any) -> Shape:
    """The shape of an abstract value; () for one without."""
    return tuple(int(size) for size in getattr(aval, "shape", ()))


def on_host(aval: Any) -> bool:
    """Whether an abstract value lies in the memory of the host."""
    return getattr(getattr(aval, "memory_space", None), "name", "") == "Host"
