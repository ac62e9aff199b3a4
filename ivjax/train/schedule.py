"""Learning-rate and weight-decay schedules, per optimizer step."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np


class Schedule(Protocol):
    """A value for each step."""

    def at(self, step: Any, total: int, xp: ModuleType = jnp) -> Any:
        """Value of optimizer step `step` (an array, counted from 0) of a run of `total` steps.

        `xp` is jax.numpy or numpy.
        """
        ...


@dataclass(frozen=True)
class WarmupCosine:
    """Linear from `start` to `peak` over `warmup` steps (end point included), then a cosine to `final`.

    The cosine begins with `peak` again and, as in the originals of stage 1, never quite reaches `final`.
    """

    peak: float
    final: float = 0.0
    warmup: int = 0
    start: float = 0.0

    def at(self, step: Any, total: int, xp: ModuleType = jnp) -> Any:
        """See Schedule."""
        risen = xp.minimum(step / xp.maximum(self.warmup - 1, 1), 1.0)
        rising = self.start + (self.peak - self.start) * risen
        rest = xp.maximum(total - self.warmup, 1)
        left = xp.clip(rest - (step - self.warmup), 0, rest) / rest
        # 0.5 (1 + cos(pi (1 - left))) without the cancellation that costs float32 its last digits.
        falling = self.final + (self.peak - self.final) * xp.square(xp.sin(0.5 * np.pi * left))
        return xp.where(step < self.warmup, rising, falling)


@dataclass(frozen=True)
class FlooredCosine:
    """`peak` times step / warmup, then times a cosine to 0, but never times less than `floor`.

    That of the originals' stage 2. After the last step the cosine would rise again.
    """

    peak: float
    floor: float = 0.01
    warmup: int = 0

    def at(self, step: Any, total: int, xp: ModuleType = jnp) -> Any:
        """See Schedule."""
        rising = step / xp.maximum(self.warmup, 1)
        gone = (step - self.warmup) / xp.maximum(total - self.warmup, 1)
        falling = xp.square(xp.cos(0.5 * np.pi * gone))
        return self.peak * xp.maximum(xp.where(step < self.warmup, rising, falling), self.floor)
