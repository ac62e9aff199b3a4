"""Options of the linear probe."""

from dataclasses import dataclass
from typing import Literal

from ivjax.evals.suites.fields import REQUIRED, option
from ivjax.evals.suites.suite import NAMING, FeatureSuite

Baseline = Literal["random", "none"]


@dataclass(frozen=True, kw_only=True)
class LinearProbe(FeatureSuite):
    """Fits a linear classifier to the features of an encoder that is not trained for it.

    Attributes:
        train: the clips that the probe is fitted to, read as the test set is.
        attribute: whose values are told apart (None: the numbered labels).
        baseline: whether the same architecture with random parameters is probed too.
        still: whether the encoder is also probed on one frame of each clip: what needs no video.
    """

    name = "probe"
    about = "linear probe of an encoder's features"
    IMPLEMENTATION = "ivjax.evals.scoring.probing"
    METRICS = (*NAMING, "random_top1", "gain", "still_top1")

    train: str = option(REQUIRED, "what the probe is fitted to, of the same kind as --data", metavar="PATH")
    attribute: str | None = option(
        None, "tell apart the values of this attribute, not the numbered labels", metavar="A"
    )
    baseline: Baseline = option("random", "whether random parameters are probed too")
    still: bool = option(False, "also probe what the encoder sees in the middle frame alone, repeated")

    def sources(self, data: str) -> tuple[str, ...]:
        """Returns the training set and the test set."""
        return self.train, data
