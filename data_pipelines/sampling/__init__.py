"""Frame rules: the options that say which frames of a clip are read."""

from ivjax.data_pipelines.sampling.classifier_rules import Dense, Segments, Spread, Stretched, Ticks
from ivjax.data_pipelines.sampling.for_tests import EveryOf, rule_for_tests, rules_of_views
from ivjax.data_pipelines.sampling.frame_rule import FrameRule
from ivjax.data_pipelines.sampling.interval_rules import (
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
    "EveryOf",
    "FrameRule",
    "Intervals",
    "PerSecond",
    "Segments",
    "Spread",
    "Stretched",
    "Ticks",
    "Within",
    "rule_for_tests",
    "rules_of_views",
]
