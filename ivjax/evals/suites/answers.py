"""Options of questions about videos to a pair of towers."""

from dataclasses import dataclass
from typing import Any

from ivjax.errors import UserError
from ivjax.evals.suites.fields import option
from ivjax.evals.suites.suite import Comparing, PairSuite
from ivjax.experiment import late


@dataclass(frozen=True, kw_only=True)
class VideoAnswers(PairSuite):
    """Questions about videos: of all answers the one that, written behind the question, fits the clip best.

    Attributes:
        compare: answers are compared by the logit of a match, by a model that reads texts beside clips, or by
            their cosines with the clip.
        candidates: a file of the answers to questions without options, one a line (None: all answers of the
            test set).
        wording: how a question and an answer become a text.
        only: kinds of question that count; empty: all.
    """

    name = "vqa"
    about = "questions about videos, without a language model: the answer that fits the clip best"
    IMPLEMENTATION = "ivjax.evals.scoring.answering"
    METRICS = (
        *("accuracy", "chance", "times_chance"),
        *("open_accuracy", "open_chance", "open_most_frequent"),
    )

    compare: Comparing = option(
        "match", "score of a text: its cosine with the clip, or the logit of a match (stage 2)"
    )
    candidates: str | None = option(
        None, "answers to open questions, one a line (default: all of the test set)", metavar="FILE"
    )
    wording: str = option("{question} {answer}", "how a question and an answer become a text", metavar="T")
    only: tuple[str, ...] = option((), "kinds of question that count (default: all)", metavar="KIND")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_one_clip("compare=match")
        if "{answer}" not in self.wording:
            raise UserError(f"the wording {self.wording!r} has no {{answer}} where the answer goes")

    @property
    def judges(self) -> bool:
        """See PairSuite."""
        return self.compare == "match"

    def check(self, experiment: Any, data: str) -> None:
        """See EvalSuite."""
        late.call(self.READER, "check_experiment", self, experiment)
        late.call("ivjax.evals.dialogue.questions", "check_questions", data)

    def check_source(self, data: Any) -> None:
        """See EvalSuite."""
        late.call("ivjax.evals.dialogue.questions", "open_questions", data)
