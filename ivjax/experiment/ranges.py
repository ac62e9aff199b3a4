"""Ranges of options: declared with the type of a field, and checked with the path of the field."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

from ivjax.errors import UserError
from ivjax.experiment.branches import branches_of, options_of
from ivjax.experiment.listing import show

# Steps and seeds are int32 on devices.
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Within:
    """The numbers that an option may have.

    Attributes:
        low: the least.
        high: the largest; a whole number is never above 2**31 - 1.
        above: whether `low` itself is too little.
        below: whether `high` itself is too much.
    """

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, number: float) -> bool:
        """Whether the number lies in the range; one that is no number lies in none."""
        enough = number > self.low if self.above else number >= self.low
        few = number < self.high if self.below else number <= self.high
        return enough and few and not (isinstance(number, int) and abs(number) > _LARGEST)

    def __str__(self) -> str:
        least = f"{'above' if self.above else 'at least'} {self.low:g}"
        most = f"{'below' if self.below else 'at most'} {self.high:g}"
        parts = [least] * (self.low > -math.inf) + [most] * (self.high < math.inf)
        return " and ".join(parts) or "of any size"


# A whole number of things of which there is at least one.
Count = Annotated[int, Within(1)]

# A number above 0.
Positive = Annotated[float, Within(0, above=True, below=True)]

# A part of a whole, from nothing to all of it.
Share = Annotated[float, Within(0, 1)]

# A share that never is all: of what is dropped, or of an average that is kept.
Rate = Annotated[float, Within(0, 1, below=True)]

# Any number that is finite.
Signed = Annotated[float, Within(-math.inf, below=True, above=True)]

# Of a number whose field declares nothing: most options are counts and weights.
_UNDECLARED = Within(0, below=True)


def check_ranges(value: Any, path: str = "", kind: Any = Any) -> None:
    """Raises UserError for the first number, in the fields of a dataclass and below, out of its range."""
    for name, branch in branches_of(value, kind, declared=True).items():
        place = f"{path}.{name}" if path else name
        # True and False are whole numbers to Python.
        if isinstance(branch.value, int | float) and not isinstance(branch.value, bool):
            allowed = _declared(branch.kind)
            if not allowed.holds(branch.value):
                raise UserError(f"{place}={show(branch.value)}; it must be {allowed}{_bound(branch.value)}")
        else:
            check_ranges(branch.value, place, branch.kind)


def _bound(number: float) -> str:
    """What bounds a number above where its range does not."""
    if isinstance(number, int):
        return f", at most {_LARGEST}" if abs(number) > _LARGEST else ""
    return "" if math.isfinite(number) else ", and finite"


def _declared(kind: Any) -> Within:
    for option in options_of(kind):
        for note in getattr(option, "__metadata__", ()):
            if isinstance(note, Within):
                return note
    return _UNDECLARED
