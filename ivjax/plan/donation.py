"""Donation: the new state is written over the old one. Finds the bytes that this saves, and its copies."""

import bisect
from collections import Counter
from collections.abc import Iterable, Sequence

from ivjax.plan.lifetimes import Frame, Value


def reuse_places(frame: Frame, old: Sequence[Value], new: Sequence[Value]) -> None:
    """Makes new values that are computed element by element from an old one free: they overwrite it."""
    made = frame.elementwise()
    for before, after in zip(old, new, strict=True):
        for name in after.sources & made.keys():
            # XLA gives a result the place of an argument only where it is computed elementwise from it,
            # so that no element is read after it was overwritten.
            if before.sources <= made[name]:
                frame.sizes[name] = 0


def copied_first(frame: Frame, old: Sequence[Value], new: Sequence[Value]) -> list[Value]:
    """Returns the old values that XLA for CPUs copies first: those that several new values are computed from.

    It computes every new value by itself, and the first of them overwrites the old one.
    """
    made = frame.elementwise()
    made_of = Counter(name for value in new for name in _origins(value, made))
    return [value for value in old if any(made_of[name] > 1 for name in value.sources)]


def reused_bytes(sizes: Iterable[int], places: Iterable[int]) -> int:
    """Returns the bytes of values that fit into free places, one value in each, the largest first."""
    free, total = sorted(places), 0
    # Largest first and into the smallest place that fits, so that a small value takes no large place.
    for size in sorted(sizes, reverse=True):
        found = bisect.bisect_left(free, size)
        if found < len(free):
            free.pop(found)
            total += size
    return total


def _origins(value: Value, made: dict[int, frozenset[int]]) -> set[int]:
    """Returns the stored values that `value` is computed from element by element, directly or not."""
    found: set[int] = set()
    waiting = set(value.sources)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= made.get(name, frozenset()) - found
    return found
