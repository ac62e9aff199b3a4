"""Distribution of any number of values, in bounded memory."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BINS = 20
_MOST = 1e300  # sums and edges of bins must stay finite


class Distribution:
    """Counts of values, rounded to three digits: whole numbers below 1,000 are exact."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()
        self._sum = 0.0
        self.least, self.most = math.inf, -math.inf

    def add(self, value: float) -> None:
        """Adds a value unless it is infinite, as good as infinite, or not a number."""
        if abs(value) < _MOST:
            self._counts[float(f"{value:.3g}")] += 1
            self._sum += value
            self.least, self.most = min(self.least, value), max(self.most, value)

    @property
    def count(self) -> int:
        """Number of values."""
        return self._counts.total()

    @property
    def mean(self) -> float:
        """Mean of the values; NaN if there are none."""
        return self._sum / self.count if self.count else math.nan

    def quantiles(self, shares: Sequence[float] = QUANTILES) -> list[float]:
        """Returns for each share the smallest value that at least this share of the values do not exceed."""
        values, counts = self._sorted()
        ends = np.cumsum(counts)
        # A little less, because 0.07 * 100 is above 7 in floating point.
        places = np.searchsorted(ends, np.asarray(shares) * self.count - 1e-9)
        return [float(quantile) for quantile in np.clip(values[places], self.least, self.most)]

    def histogram(self, bins: int = BINS) -> tuple[list[float], list[int]]:
        """Returns (bins + 1 edges, counts) over the range of the values."""
        values, counts = self._sorted()
        least, most = float(values[0]), float(values[-1])
        # Of equal values, numpy's own margin of a half is less than the least step of a large number.
        margin = max(0.5, abs(least) / 1000) if least == most else 0.0
        heights, edges = np.histogram(values, bins, (least - margin, most + margin), weights=counts)
        return [float(f"{edge:.4g}") for edge in edges], [int(height) for height in heights]

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        values, counts = zip(*sorted(self._counts.items()), strict=True)
        return np.asarray(values), np.asarray(counts)
