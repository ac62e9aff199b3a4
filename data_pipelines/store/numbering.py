"""Numbers that run through several parts, one after the other."""

import bisect
import itertools
from collections.abc import Iterable


class Concatenation:
    """Concatenation of the given sizes, numbered through: which part a number falls into, and where in it."""

    def __init__(self, sizes: Iterable[int]):
        self._starts = [0, *itertools.accumulate(sizes)]

    def __len__(self) -> int:
        return self._starts[-1]

    def locate(self, number: int) -> tuple[int, int]:
        """Part, and number inside it."""
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        part = bisect.bisect_right(self._starts, number) - 1
        return part, number - self._starts[part]

    def range(self, part: int) -> range:
        """The numbers of a part."""
        return range(self._starts[part], self._starts[part + 1])
