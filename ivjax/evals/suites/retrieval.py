"""Options of retrieval."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ivjax.errors import UserError
from ivjax.evals.suites.fields import option
from ivjax.evals.suites.protocols import RANKING_NAMES, protocol_named
from ivjax.evals.suites.suite import RankingSuite
from ivjax.models.sizes import Compared

_OF_RANKS = ("r1", "r5", "r10", "r50", "r_geometric", "r_mean", "medr", "meanr")
_OF_A_SIDE = (*_OF_RANKS, "r1_chance", "tied")
LETTERS: Mapping[Compared, str] = {"video": "v", "audio": "a", "both": "av"}  # of the sides of metrics
SIDES: Mapping[str, str] = {
    **{"t2v": "text to video", "v2t": "video to text"},
    **{"t2a": "text to audio", "a2t": "audio to text"},
    **{"t2av": "text to both", "av2t": "both to text"},
}
TiePlaces = Literal["expected", "originals"]
RerankScore = Literal["match", "match_and_cosine"]


@dataclass(frozen=True, kw_only=True)
class Retrieval(RankingSuite):
    """All captions of a test set against all its videos, or their sound, both ways.

    Attributes:
        protocol: the public test set whose rules hold; `none` for a set of one's own.
        ties: of candidates that score the same, `expected` takes their mean order, `originals` puts the right
            one first from text to video, where a model that gives all videos one vector finds everything.
        rerank: the best candidates of each query that are ordered anew by a model that reads texts beside
            clips; the originals take 128 (0: none). Metrics of that order have `rerank` in their names.
        rerank_by: `match`, the logit of a match alone, as in the originals; `match_and_cosine`, the
            logarithm of its odds plus the cosine over the model's temperature.
        match_weight: how much those odds count beside the cosine; below 1 for a judge that is weaker than it.
        captions: the kind of captions that are queries: `video`, `audio`, `speech` or another that the test
            set has (None: those of the clips themselves).
    """

    name = "retrieval"
    about = "text to video (or sound) and back: recalls and ranks, also reranked by the fusion layers"
    IMPLEMENTATION = "ivjax.evals.scoring.ranking"
    METRICS = (
        *("r_mean", "rerank_r_mean"),
        *(f"{side}_{name}" for side in SIDES for name in _OF_A_SIDE),
        *(f"{side}_rerank_{name}" for side in SIDES for name in _OF_RANKS),
    )

    protocol: str = option("none", f"rules of a public test set: {', '.join(RANKING_NAMES)}", metavar="NAME")
    ties: TiePlaces = option(
        "expected",
        "place of the right answer among equal ones: their mean place, or the first from text to video",
    )

    rerank: int = option(
        0,
        "best candidates of each query that stage 2's fusion layers order anew; the originals take 128",
        metavar="K",
    )
    rerank_by: RerankScore = option(
        "match", "what orders them: the logit of a match, as in the originals, or its odds beside the cosine"
    )
    match_weight: float = option(1.0, "what the odds of a match are multiplied by beside it", metavar="W")
    captions: str | None = option(
        None, "kind of captions: video, audio, speech (default: the clips' own)", metavar="KIND"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        protocol_named(self.protocol, "ranking")
        if self.rerank < 0:
            raise UserError(f"rerank must be 0 or more, got {self.rerank}")
        self.check_one_clip("rerank")
        if self.adds_cosine and (self.dsl or not self.rerank):
            raise UserError(
                "rerank_by=match_and_cosine adds cosines to what fusion layers say of the best candidates: "
                "give their number (rerank), and do not use dsl, whose scores are no cosines"
            )
        if not 0 < self.match_weight < math.inf or (self.match_weight != 1 and not self.adds_cosine):
            raise UserError(
                f"match_weight={self.match_weight:g} must be above 0, and needs rerank_by=match_and_cosine"
            )

    @property
    def adds_cosine(self) -> bool:
        """Whether the cosine counts beside what the fusion layers say."""
        return self.rerank_by == "match_and_cosine"

    @property
    def judges(self) -> bool:
        """See PairSuite."""
        return self.rerank > 0
