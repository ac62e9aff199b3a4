"""Lifetimes of the values of a program, and the most bytes that they take at once."""

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ivjax.plan.partitioning import Dims, Splits

# Numbers for the whole process: values of nested frames must not share names.
_names = itertools.count()


# Compared by identity: two values of equal shape and bytes are still two places in memory.
@dataclass(eq=False)
class Value:
    """A value on one device.

    Attributes:
        shape: its shape over all devices.
        splits: the mesh axes that split each dimension.
        bytes: its bytes on one device.
        sources: the stored values that it can be computed from; itself if it is stored.
        stored: whether it is in memory, or computed where it is used.
        view: whether it is a stored value in another shape.
        of_batch: whether it depends on the clips of the batch.
        label: what it is, for reports.
        slices: what it would be stacked from, one for each iteration of an unrolled loop.
    """

    shape: Dims
    splits: Splits
    bytes: int
    sources: frozenset[int] = frozenset()
    stored: bool = False
    view: bool = False
    of_batch: bool = False
    label: str = ""
    slices: Sequence["Value"] = ()


@dataclass
class _Step:
    """One instruction: names of values that it uses and stores, and bytes alive only meanwhile."""

    uses: frozenset[int]
    makes: tuple[int, ...]
    inner: int
    in_place: bool


@dataclass
class Frame:
    """A sequence of steps without loops: what each of them uses and stores, and what it needs beside that.

    Attributes:
        breadth_first: whether steps run as soon as they are ready, instead of in the order of the program.
        sizes: bytes of the values that the frame stores, by name.
        around: bytes of the values that were stored before it began.
        labels: what each stored value is, for reports.
        steps: the steps.
    """

    breadth_first: bool = False
    sizes: dict[int, int] = field(default_factory=dict)
    around: dict[int, int] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    steps: list[_Step] = field(default_factory=list)

    def outside(self, value: Value) -> Value:
        """Marks a value as stored before the frame begins; its bytes are not counted in the frame."""
        name = next(_names)
        self.around[name] = value.bytes
        value.sources, value.stored = frozenset((name,)), True
        return value

    def size_of(self, names: Iterable[int]) -> int:
        """Returns the bytes of stored values."""
        return sum(self.sizes.get(name, self.around.get(name, 0)) for name in names)

    def step(
        self, uses: Sequence[Value], makes: Sequence[Value] = (), inner: int = 0, in_place: bool = False
    ) -> None:
        """Adds a step that computes and stores `makes` from `uses`, with `inner` more bytes alive meanwhile.

        In place, as elementwise instructions run, an operand that is used for the last time is overwritten.
        """
        read = frozenset().union(*(value.sources for value in uses))
        names = []
        for value in makes:
            names.append(next(_names))
            self.sizes[names[-1]], self.labels[names[-1]] = value.bytes, value.label
            value.sources, value.stored, value.view = frozenset((names[-1],)), True, False
        self.steps.append(_Step(read, tuple(names), inner, in_place))

    def store(self, values: Sequence[Value]) -> None:
        """Stores those of the values that are not stored yet."""
        for value in values:
            if not value.stored and value.bytes:
                self.step([value], [value], in_place=True)

    def resize(self, value: Value, size: int) -> None:
        """Sets the bytes of a stored value to `size` where that is less."""
        for name in value.sources & self.sizes.keys():
            self.sizes[name] = min(self.sizes[name], size)

    def elementwise(self) -> dict[int, frozenset[int]]:
        """Returns the values made element by element: name -> the stored values they were made from."""
        return {name: step.uses for step in self.steps if step.in_place for name in step.makes}

    def end(self, results: Sequence[Value]) -> None:
        """Stores the results of the frame and keeps them alive until here."""
        self.store([value for value in results if not value.view])
        self.step(results)

    def peak(self) -> int:
        """Returns the most bytes alive at once."""
        return self.at_peak()[0]

    def at_peak(self) -> tuple[int, dict[int, int], int]:
        """Returns the most bytes alive at once, the stored values then, and the bytes beside them."""
        last: dict[int, int] = {}
        steps = _breadth_first(self.steps) if self.breadth_first else self.steps
        for number, step in enumerate(steps):
            last.update(dict.fromkeys((*step.makes, *(step.uses & self.sizes.keys())), number))
        live: dict[int, int] = {}
        total = 0
        best: tuple[int, dict[int, int], int] = (0, {}, 0)
        for number, step in enumerate(steps):
            dying = [name for name in step.uses if name in live and last[name] == number]
            # Freed before the result takes its place, because the result overwrites the operand.
            if step.in_place:
                total -= sum(live.pop(name) for name in dying)
                dying = []
            for name in step.makes:
                live[name] = self.sizes[name]
                total += live[name]
            if total + step.inner > best[0]:
                best = (total + step.inner, dict(live), step.inner)
            # A result that nobody uses still takes memory while its instruction runs.
            dying += [name for name in step.makes if last[name] == number]
            total -= sum(live.pop(name) for name in dying)
        return best


def _breadth_first(steps: Sequence[_Step]) -> list[_Step]:
    """Returns the steps in the order in which they become ready."""
    waits = [0] * len(steps)
    followers: list[list[int]] = [[] for _ in steps]
    made_by: dict[int, int] = {}
    for number, step in enumerate(steps):
        before = {made_by[name] for name in step.uses if name in made_by}
        waits[number] = len(before)
        for earlier in before:
            followers[earlier].append(number)
        # A step that stores nothing writes into what it uses, so later users must wait for it.
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
