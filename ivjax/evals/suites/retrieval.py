"""Options of retrieval."""

from dataclasses import dataclass
from typing import Literal

from ivjax.evals.suites.fields import option
from ivjax.evals.suites.protocols import RANKING_NAMES, protocol_named
from ivjax.evals.suites.suite import RankingSuite

_OF_A_SIDE = (
    *("r1", "r5", "r10", "r50", "r_geometric", "r_mean", "medr", "meanr"),
    *("r1_chance", "tied"),
)
TiePlaces = Literal["expected", "originals"]


@dataclass(frozen=True, kw_only=True)
class Retrieval(RankingSuite):
    """All captions of a test set against all its videos, both ways.

    Attributes:
        protocol: the public test set whose rules hold; `none` for a set of one's own.
        ties: of candidates that score the same, `expected` takes their mean order, `originals` puts the right
            one first from text to video, where a model that gives all videos one vector finds everything.
    """

    name = "retrieval"
    about = "text to video and video to text: recalls and ranks"
    IMPLEMENTATION = "ivjax.evals.scoring.ranking"
    METRICS = ("r_mean", *(f"{side}_{name}" for side in ("t2v", "v2t") for name in _OF_A_SIDE))

    protocol: str = option("none", f"rules of a public test set: {', '.join(RANKING_NAMES)}", metavar="NAME")
    ties: TiePlaces = option(
        "expected",
        "place of the right answer among equal ones: their mean place, or the first from text to video",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        protocol_named(self.protocol, "ranking")
