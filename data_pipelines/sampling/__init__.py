"""Which frames of a clip are read: the originals' rules, as named options."""

from ivjax.data_pipelines.sampling.rules import (
    ByDuration,
    Dense,
    FrameRule,
    Intervals,
    PerSecond,
    Segments,
    Spread,
    Ticks,
)

__all__ = ["ByDuration", "Dense", "FrameRule", "Intervals", "PerSecond", "Segments", "Spread", "Ticks"]
