"""Frame rules of tests: what a rule that draws random numbers becomes where nothing may be drawn."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ivjax.data_pipelines.sampling.frame_rule import FrameRule, check_counts
from ivjax.errors import UserError


@dataclass(frozen=True)
class MiddleDraws:
    """A rule whose every draw is the middle of what could be drawn.

    Attributes:
        rule: the rule that draws.
    """

    rule: FrameRule

    @property
    def frames(self) -> int:
        """Number of frames that come out."""
        return self.rule.frames

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers of a clip: (frames,) int64."""
        middle: Any = _Middle()
        return self.rule.choose(length, fps, middle)

    def for_tests(self) -> FrameRule:
        """Returns the rule itself, which draws nothing."""
        return self


@dataclass(frozen=True)
class EveryOf:
    """Every `step`-th of the frames of a rule: what a tower sees of clips that are read for a finer one.

    Attributes:
        rule: the rule.
        step: from one of its frames to the next one that is kept.
    """

    rule: FrameRule
    step: int

    def __post_init__(self) -> None:
        check_counts(step=self.step)

    @property
    def frames(self) -> int:
        """Number of frames that come out."""
        return -(-self.rule.frames // self.step)

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers of a clip: (frames,) int64."""
        return self.rule.choose(length, fps, rng)[:: self.step]

    def for_tests(self) -> FrameRule:
        """Returns the same of the rule of tests."""
        return replace(self, rule=rule_for_tests(self.rule))


def rule_for_tests(rule: FrameRule) -> FrameRule:
    """Returns the rule that reads clips in tests as `rule` does in training: it draws nothing.

    A rule says it with a method `for_tests`; one without it has every draw replaced by its middle.
    """
    counterpart = getattr(rule, "for_tests", None)
    found: FrameRule = MiddleDraws(rule) if counterpart is None else counterpart()
    return found


def rules_of_views(rule: FrameRule, views: int) -> tuple[FrameRule, ...]:
    """Returns the rules of several views of the same clip; none if `rule` knows no views.

    A rule says it with a method `view_for_tests(view, views)`.
    """
    of_view = getattr(rule, "view_for_tests", None)
    return () if of_view is None else tuple(of_view(view, views) for view in range(views))


class _Middle:
    """Stands in for a generator: as much of it as rules use."""

    def integers(self, low: Any, high: Any = None, size: int | tuple[int, ...] | None = None) -> Any:
        """Returns the middle of [low, high), or of [0, low)."""
        first, end = (0, low) if high is None else (low, high)
        middle = (np.asarray(first) + np.asarray(end) - 1) // 2
        return middle if size is None else np.broadcast_to(middle, size)

    def random(self, size: int | tuple[int, ...] | None = None) -> Any:
        """Returns one half."""
        return 0.5 if size is None else np.full(size, 0.5)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int | tuple[int, ...] | None = None) -> Any:
        """Returns the middle of the range."""
        return low + (high - low) * self.random(size)

    def __getattr__(self, name: str) -> Any:
        raise UserError(
            f"a frame rule draws by {name}, which has no middle; give the rule a method for_tests that "
            "returns the rule of tests"
        )
