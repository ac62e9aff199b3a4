"""The distribution of a quantity over any number of values, in bounded memory."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BINS = 20


class Distribution:
    """Counts values rounded to three digits: whole numbers below 1,000 stay exact, others to 0.5 %."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()
        self._sum = 0.0
        self.least, self.most = math.inf, -math.inf

    def add(self, value: float) -> None:
        """Takes one value; what is not finite is not counted."""
        if math.isfinite(value):
            self._counts[float(f"{value:.3g}")] += 1
            self._sum += value
            self.least, self.most = min(self.least, value), max(self.most, value)

    @property
    def count(self) -> int:
        """Values taken."""
        return self._counts.total()

    @property
    def mean(self) -> float:
        """Their mean; not a number if there are none."""
        return self._sum / self.count if self.count else math.nan

    def quantiles(self, shares: Sequence[float] = QUANTILES) -> list[float]:
        """For each share, the least value that at least so many values do not exceed."""
        values, counts = self._sorted()
        ends = np.cumsum(counts)
        places = np.searchsorted(ends, np.asarray(shares) * self.count - 1e-9)
        return [float(quantile) for quantile in np.clip(values[places], self.least, self.most)]

    def histogram(self, bins: int = BINS) -> tuple[list[float], list[int]]:
        """(bins + 1 edges, counts) over the range of the values."""
        values, counts = self._sorted()
        heights, edges = np.histogram(values, bins, weights=counts)
        return [float(f"{edge:.4g}") for edge in edges], [int(height) for height in heights]

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        values, counts = zip(*sorted(self._counts.items()), strict=True)
        return np.asarray(values), np.asarray(counts)
