"""Options of the linear probe."""

from dataclasses import dataclass
from typing import Literal

from ivjax.evals.suites.fields import REQUIRED, option
from ivjax.evals.suites.suite import FEATURES, EvalSuite

Feature = Literal["pooled", "mean"]
Baseline = Literal["random", "none"]


@dataclass(frozen=True, kw_only=True)
class LinearProbe(EvalSuite):
    """What a linear classifier reads off the features of an encoder that is not trained for it.

    Attributes:
        train: the clips that the probe is fitted to, read as the test set is.
        attribute: whose values are told apart (None: the numbered labels).
        features: what the encoder `pooled`, or the `mean` of its last states of all patches (None: what it
            pools, unless it pools nothing or its pooling was never trained).
        baseline: whether the same architecture with random parameters is probed too.
        branch: which encoder of a run in memory is probed; a command names it as PATH#BRANCH.
    """

    name = "probe"
    about = "linear probe of an encoder's features"
    READER = FEATURES
    IMPLEMENTATION = "ivjax.evals.scoring.probing"

    train: str = option(REQUIRED, "what the probe is fitted to, of the same kind as --data", metavar="PATH")
    attribute: str | None = option(
        None, "tell apart the values of this attribute, not the numbered labels", metavar="A"
    )
    features: Feature | None = option(
        None, "what the encoder pools (default, where it does), or the mean of its last tokens"
    )
    baseline: Baseline = option("random", "whether random parameters are probed too")
    branch: str | None = option(None, "which encoder of a run in memory", flag=None)
