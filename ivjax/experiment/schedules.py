"""Schedules: a value for each optimizer step. `xp` is numpy or jax.numpy, so that options import neither."""

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any, Protocol

from ivjax.experiment.ranges import Share, Within

# A rate: the limit is far above what a run survives, and far below what a slip in an exponent gives.
LearningRate = Annotated[float, Within(0, 1000)]


class Schedule(Protocol):
    """A value for each step."""

    def at(self, step: Any, total: int, xp: ModuleType) -> Any:
        """Returns the value at optimizer step `step` (an array, counted from 0) of a run of `total` steps.

        `xp` is jax.numpy or numpy.
        """
        ...


@dataclass(frozen=True)
class WarmupCosine:
    """A linear warm-up (end point included), then a cosine: the schedule of the originals' stage 1.

    The cosine begins with `peak` again and, as in the originals, never quite reaches `final`.

    Attributes:
        peak: value at the end of the warm-up.
        final: value that the cosine approaches.
        warmup: steps of the warm-up.
        start: value of the first step of the warm-up.
    """

    peak: LearningRate
    final: LearningRate = 0.0
    warmup: int = 0
    start: LearningRate = 0.0

    def at(self, step: Any, total: int, xp: ModuleType) -> Any:
        """Returns the value at `step`; arguments as in Schedule."""
        # The end point is included as in the originals: the peak is reached at step
        # warmup - 1 and held for one step.
        risen = xp.minimum(step / xp.maximum(self.warmup - 1, 1), 1.0)
        rising = self.start + (self.peak - self.start) * risen
        rest = xp.maximum(total - self.warmup, 1)
        left = xp.clip(rest - (step - self.warmup), 0, rest) / rest
        # 0.5 (1 + cos(pi (1 - left))) without the cancellation that costs float32 its last digits.
        falling = self.final + (self.peak - self.final) * xp.square(xp.sin(0.5 * math.pi * left))
        return xp.where(step < self.warmup, rising, falling)


@dataclass(frozen=True)
class FlooredCosine:
    """A linear warm-up and a cosine to 0, both with a floor: the schedule of the originals' stage 2.

    After the last step the cosine would rise again.

    Attributes:
        peak: value at the end of the warm-up.
        floor: smallest value, as a share of `peak`.
        warmup: steps of the warm-up.
    """

    peak: LearningRate
    # 1 % as in the originals' stage 2, in the warm-up as well as at the end.
    floor: Share = 0.01
    warmup: int = 0

    def at(self, step: Any, total: int, xp: ModuleType) -> Any:
        """Returns the value at `step`; arguments as in Schedule."""
        rising = step / xp.maximum(self.warmup, 1)
        gone = (step - self.warmup) / xp.maximum(total - self.warmup, 1)
        # 0.5 (1 + cos(pi gone)), written as above.
        falling = xp.square(xp.cos(0.5 * math.pi * gone))
        return self.peak * xp.maximum(xp.where(step < self.warmup, rising, falling), self.floor)
