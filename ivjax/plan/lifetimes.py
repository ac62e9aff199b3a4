"""When the values of a program are alive, and how many bytes they take at most."""

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ivjax.plan.partitioning import Shape, Splits

_names = itertools.count()


@dataclass(eq=False)
class Value:
    """A value on one device: `sources` are the stored values that it can be made from, itself if stored.

    A `view` is a stored value in another shape. `rows`: it has to do with the rows of the batch. `parts`:
    what it would be stacked from, one for each turn of an unrolled loop.
    """

    shape: Shape
    splits: Splits
    bytes: int
    sources: frozenset[int] = frozenset()
    stored: bool = False
    view: bool = False
    rows: bool = False
    label: str = ""
    parts: Sequence["Value"] = ()


@dataclass
class _Step:
    uses: frozenset[int]
    makes: tuple[int, ...]
    inner: int
    in_place: bool


@dataclass
class Frame:
    """A straight line of steps: what each uses, what it stores, and what it needs beside that.

    They run in the order of the program, or `breadth_first`: what is ready first runs first.
    """

    breadth_first: bool = False
    sizes: dict[int, int] = field(default_factory=dict)
    around: dict[int, int] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    steps: list[_Step] = field(default_factory=list)

    def outside(self, value: Value) -> Value:
        """A value that lies in memory before the frame begins; its bytes are not the frame's."""
        name = next(_names)
        self.around[name] = value.bytes
        value.sources, value.stored = frozenset((name,)), True
        return value

    def size_of(self, names: Iterable[int]) -> int:
        """Bytes of stored values."""
        return sum(self.sizes.get(name, self.around.get(name, 0)) for name in names)

    def step(
        self, uses: Sequence[Value], makes: Sequence[Value] = (), inner: int = 0, in_place: bool = False
    ) -> None:
        """Something is computed from `uses`; `makes` are stored, `inner` bytes are alive meanwhile.

        In place (elementwise), what is used for the last time makes room for what is made.
        """
        read = frozenset().union(*(value.sources for value in uses))
        names = []
        for value in makes:
            names.append(next(_names))
            self.sizes[names[-1]], self.labels[names[-1]] = value.bytes, value.label
            value.sources, value.stored, value.view = frozenset((names[-1],)), True, False
        self.steps.append(_Step(read, tuple(names), inner, in_place))

    def store(self, values: Sequence[Value]) -> None:
        """Stores those that are not yet."""
        for value in values:
            if not value.stored and value.bytes:
                self.step([value], [value], in_place=True)

    def resize(self, value: Value, size: int) -> None:
        """A stored value turns out to take `size` bytes."""
        for name in value.sources & self.sizes.keys():
            self.sizes[name] = min(self.sizes[name], size)

    def elementwise(self) -> dict[int, frozenset[int]]:
        """What was made element by element, and from which stored values."""
        return {name: step.uses for step in self.steps if step.in_place for name in step.makes}

    def end(self, results: Sequence[Value]) -> None:
        """Stores what leaves the frame and keeps it alive until here."""
        self.store([value for value in results if not value.view])
        self.step(results)

    def peak(self) -> int:
        """The most bytes alive at once."""
        return self.at_peak()[0]

    def at_peak(self) -> tuple[int, dict[int, int], int]:
        """Most bytes alive, the stored values of that moment by name, and what was alive beside them."""
        last: dict[int, int] = {}
        steps = _breadth_first(self.steps) if self.breadth_first else self.steps
        for number, step in enumerate(steps):
            last.update(dict.fromkeys((*step.makes, *(step.uses & self.sizes.keys())), number))
        live: dict[int, int] = {}
        total = 0
        best: tuple[int, dict[int, int], int] = (0, {}, 0)
        for number, step in enumerate(steps):
            dying = [name for name in step.uses if name in live and last[name] == number]
            if step.in_place:
                total -= sum(live.pop(name) for name in dying)
                dying = []
            for name in step.makes:
                live[name] = self.sizes[name]
                total += live[name]
            if total + step.inner > best[0]:
                best = (total + step.inner, dict(live), step.inner)
            dying += [name for name in step.makes if last[name] == number]
            total -= sum(live.pop(name) for name in dying)
        return best


def _breadth_first(steps: Sequence[_Step]) -> list[_Step]:
    """The steps in the order in which they become ready."""
    waits = [0] * len(steps)
    followers: list[list[int]] = [[] for _ in steps]
    made_by: dict[int, int] = {}
    for number, step in enumerate(steps):
        before = {made_by[name] for name in step.uses if name in made_by}
        waits[number] = len(before)
        for earlier in before:
            followers[earlier].append(number)
        # A step that makes nothing changes what it uses.
        made_by.update(dict.fromkeys(step.makes or step.uses, number))
    ready, order = deque(number for number, count in enumerate(waits) if not count), []
    while ready:
        number = ready.popleft()
        order.append(steps[number])
        for later in followers[number]:
            waits[later] -= 1
            if not waits[later]:
                ready.append(later)
    return order
