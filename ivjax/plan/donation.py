"""The new state lies where the old one did: what that saves, and what it takes."""

import bisect
from collections import Counter
from collections.abc import Iterable, Sequence

from ivjax.plan.lifetimes import Frame, Value


def replace(frame: Frame, old: Sequence[Value], new: Sequence[Value]) -> None:
    """What is made element by element on the way from an old value to its new one takes its place."""
    made = frame.elementwise()
    for before, after in zip(old, new, strict=True):
        for name in after.sources & made.keys():
            if before.sources <= made[name]:
                frame.sizes[name] = 0


def copied(frame: Frame, old: Sequence[Value], new: Sequence[Value]) -> list[Value]:
    """The old values that XLA for CPUs copies before anything else: those that several new ones are made of.

    It computes every new value by itself, and the first of them takes the place of the old one.
    """
    made = frame.elementwise()
    made_of = Counter(name for value in new for name in _origins(value, made))
    return [value for value in old if any(made_of[name] > 1 for name in value.sources)]


def fitting(sizes: Iterable[int], places: Iterable[int]) -> int:
    """Bytes of values, the largest first, that find a place (in bytes), one value in each."""
    free, total = sorted(places), 0
    for size in sorted(sizes, reverse=True):
        found = bisect.bisect_left(free, size)
        if found < len(free):
            free.pop(found)
            total += size
    return total


def _origins(value: Value, made: dict[int, frozenset[int]]) -> set[int]:
    """The stored values that `value` is made from element by element, through any others."""
    found: set[int] = set()
    left = set(value.sources)
    while left:
        name = left.pop()
        found.add(name)
        left |= made.get(name, frozenset()) - found
    return found
