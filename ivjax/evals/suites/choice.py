"""Options of multiple choice."""

from dataclasses import dataclass

from ivjax.errors import UserError
from ivjax.evals.suites.fields import option
from ivjax.evals.suites.protocols import CHOICE_NAMES, protocol_named
from ivjax.evals.suites.suite import Comparing, PairSuite


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(PairSuite):
    """Chooses the one of a video's own options that fits it, or all that fit where several are right.

    Attributes:
        protocol: the public test set whose rules hold; `choice` for a set of one's own.
        temperature: what cosines are divided by before the softmax over options, on which mAP depends.
        compare: options are compared by their cosines with the clip, or by the logit of a match, by a model
            that reads texts beside clips.
    """

    name = "choice"
    about = "multiple choice: accuracy, or mAP where several options are right"
    IMPLEMENTATION = "ivjax.evals.scoring.choosing"
    METRICS = ("accuracy", "chance", "map", "right_share")

    protocol: str = option("choice", f"rules of a public test set: {', '.join(CHOICE_NAMES)}", metavar="NAME")
    # 0.01 is the released models' temperature of about 1/100: CLIP clips its scale at 100.
    temperature: float = option(0.01, "what cosines are divided by before the softmax", metavar="T")

    compare: Comparing = option(
        "cosine", "score of a text: its cosine with the clip, or the logit of a match (stage 2)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        protocol_named(self.protocol, "choice")
        self.check_one_clip("compare=match")
        if not self.temperature > 0:
            raise UserError(f"temperature must be above 0, got {self.temperature}")

    @property
    def judges(self) -> bool:
        """See PairSuite."""
        return self.compare == "match"
