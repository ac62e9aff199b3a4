"""Numbering of items that lie in several files or folders, one after the other."""

import bisect
import itertools
from collections.abc import Iterable


class Concatenation:
    """Items of several groups of the given sizes, numbered from 0 through all groups."""

    def __init__(self, sizes: Iterable[int]):
        self._starts = [0, *itertools.accumulate(sizes)]

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def groups(self) -> int:
        """The number of groups."""
        return len(self._starts) - 1

    def locate(self, number: int) -> tuple[int, int]:
        """Returns the group of a number, and the number inside that group."""
        if not 0 <= number < len(self):
            raise IndexError(f"there is no record {number}, only {len(self)} from 0")
        # bisect_right, because an empty group starts where the next one does.
        group = bisect.bisect_right(self._starts, number) - 1
        return group, number - self._starts[group]

    def range(self, group: int) -> range:
        """Returns the numbers of a group."""
        return range(self._starts[group], self._starts[group + 1])


def spread(numbers: range, count: int) -> range:
    """Returns about `count` of some numbers, at even distances."""
    return numbers[:: max(len(numbers) // count, 1)]
