"""Which frames of a clip are read: the originals' rules, as named options."""

from ivjax.data_pipelines.sampling.readers import Dense, Segments, Spread, Ticks
from ivjax.data_pipelines.sampling.rule import FrameRule
from ivjax.data_pipelines.sampling.rules import (
    INTERNVIDEO25_TEST,
    INTERNVIDEO25_TRAIN,
    VIDEOCHAT_FLASH,
    ByDuration,
    Intervals,
    PerSecond,
    Within,
)

__all__ = [
    "INTERNVIDEO25_TEST",
    "INTERNVIDEO25_TRAIN",
    "VIDEOCHAT_FLASH",
    "ByDuration",
    "Dense",
    "FrameRule",
    "Intervals",
    "PerSecond",
    "Segments",
    "Spread",
    "Ticks",
    "Within",
]
