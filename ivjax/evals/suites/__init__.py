"""The eval suites by name. A new one is a module here and a line in SUITES."""

from collections.abc import Mapping

from ivjax.evals.suites.answers import VideoAnswers
from ivjax.evals.suites.choice import MultipleChoice
from ivjax.evals.suites.classify import ViewClassification
from ivjax.evals.suites.dialogue import NeedleSearch, VideoMoments, VideoQuestions
from ivjax.evals.suites.probe import LinearProbe
from ivjax.evals.suites.retrieval import Retrieval
from ivjax.evals.suites.suite import EvalSuite
from ivjax.evals.suites.zeroshot import ZeroShot

__all__ = [
    "SUITES",
    "ViewClassification",
    "LinearProbe",
    "MultipleChoice",
    "Retrieval",
    "EvalSuite",
    "NeedleSearch",
    "VideoAnswers",
    "VideoMoments",
    "VideoQuestions",
    "ZeroShot",
]

SUITES: Mapping[str, type[EvalSuite]] = {
    suite.name: suite
    for suite in (
        Retrieval,
        MultipleChoice,
        VideoAnswers,
        ZeroShot,
        LinearProbe,
        ViewClassification,
        VideoQuestions,
        VideoMoments,
        NeedleSearch,
    )
}
