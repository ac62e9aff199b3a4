"""Similarities of queries and candidates in strips: a few queries at a time against all candidates."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from ivjax.evals.suites.suite import Aggregate, Scoring

# 32 MB: the whole matrix of 50,000 x 50,000 scores would take 10 GB, and strips 0.2 (docs/benchmarks.md).
_STRIP_BYTES = 2**25  # of the float32 scores of one strip
_COLUMNS = 4096  # candidates that are multiplied at a time
_FOLDS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": np.add,
    "max": np.maximum,
    "logsumexp": np.logaddexp,
}


def strips(queries: np.ndarray, candidates: np.ndarray, scoring: Scoring = Scoring()) -> Iterator[np.ndarray]:
    """Yields scores (b, n) float32 of queries (m, [P,] D) with candidates (n, [Q,] D), b queries at a time.

    No more than a few strips are in memory at a time; dual softmax computes them twice for that.
    """
    if scoring.aggregate == "embedding":
        queries, candidates = unit_mean(queries), unit_mean(candidates)
    rows = scoring.rows or max(_STRIP_BYTES // (4 * len(candidates)), 1)
    totals = None
    if scoring.dsl:
        # The softmax runs over the queries of all strips. Computing them twice spares the whole matrix.
        totals = _log_totals(_plain(queries, candidates, scoring, rows), scoring.dsl_scale)
    for strip in _plain(queries, candidates, scoring, rows):
        yield strip if totals is None else _weighed(strip, totals, scoring.dsl_scale)


def similarity(queries: np.ndarray, candidates: np.ndarray, aggregate: Aggregate = "mean") -> np.ndarray:
    """Returns products (m, n) float32 of (m, [P,] D) and (n, [Q,] D), aggregated over P and Q."""
    # Rounded from float64, so that equal rows score equally whatever block they are multiplied in.
    left, right = (_parted(side).astype(np.float64) for side in (queries, candidates))
    products = (left[:, p] @ right[:, q].T for p in range(left.shape[1]) for q in range(right.shape[1]))
    folded = next(products)
    for product in products:
        folded = _FOLDS[aggregate](folded, product)
    if aggregate == "mean":
        folded = folded / (left.shape[1] * right.shape[1])
    return folded.astype(np.float32)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Returns the softmax along the last axis."""
    # Less the maximum, or float32 overflows at the originals' scale of 100.
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def unit_mean(vectors: np.ndarray) -> np.ndarray:
    """Returns the unit mean (n, D) of vectors (n, P, D); (n, D) stays as it is."""
    if vectors.ndim == 2:
        return vectors
    mean = vectors.mean(1)
    # Opposite unit vectors have a mean of zero, which has no direction; it stays zero and not NaN.
    return mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), np.finfo(np.float32).tiny)


def _parted(side: np.ndarray) -> np.ndarray:
    return side if side.ndim == 3 else side[:, None]


def _plain(queries: np.ndarray, candidates: np.ndarray, scoring: Scoring, rows: int) -> Iterator[np.ndarray]:
    aggregate: Aggregate = "mean" if scoring.aggregate == "embedding" else scoring.aggregate
    # In blocks of candidates, because their float64 copies would be larger than the strip.
    ends = [*range(0, len(candidates), _COLUMNS), len(candidates)]
    for start in range(0, len(queries), rows):
        some = queries[start : start + rows]
        strip = np.empty((len(some), len(candidates)), np.float32)
        for first, last in itertools.pairwise(ends):
            strip[:, first:last] = similarity(some, candidates[first:last], aggregate)
        yield strip


def _log_totals(strips: Iterable[np.ndarray], scale: float) -> np.ndarray:
    """Per candidate, the log of the sum of exp(scale * score) over all queries: (n,) float64."""
    # The log of an empty sum.
    totals = np.array(-np.inf)
    for strip in strips:
        scaled = scale * strip.astype(np.float64)
        most = scaled.max(0)
        totals = np.logaddexp(totals, most + np.log(np.exp(scaled - most).sum(0)))
    return totals


def _weighed(strip: np.ndarray, totals: np.ndarray, scale: float) -> np.ndarray:
    # Both terms of the exponent may be large; their difference is not above 0.
    return (strip * np.exp(scale * strip.astype(np.float64) - totals)).astype(np.float32)
