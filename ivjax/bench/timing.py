"""Medians of functions that are called in turn, so that all of them see the same machine."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax


def in_turn(functions: Sequence[Callable[[], Any]], runs: int, budget: float | None = None) -> list[float]:
    """Returns the median seconds of each function over `runs` rounds that call all in turn, after a warm-up.

    A function that has used up `budget` seconds is not called again. If its warm-up alone took longer, that
    counts as its run.
    """
    limit = float("inf") if budget is None else budget
    # Not counted: the first call may compile, and fills caches.
    warm = [_seconds(function) for function in functions]
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(runs):
        for function, first, kept in zip(functions, warm, times, strict=True):
            if first + sum(kept) < limit:
                kept.append(_seconds(function))
    # The median: on a shared machine single runs are off, mostly towards slow.
    return [statistics.median(kept or [first]) for first, kept in zip(warm, times, strict=True)]


def _seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    # jax returns before the device is done.
    jax.block_until_ready(function())
    return time.perf_counter() - started
