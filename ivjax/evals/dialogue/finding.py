"""Scores moments in videos: when what a sentence says happens, by the overlap with the right times."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ivjax.errors import UserError
from ivjax.evals.dialogue.asking import Asking, ask, seer_of
from ivjax.evals.dialogue.facts import facts_of_dialogue
from ivjax.evals.dialogue.prompts import MOMENTS, Wording, moment_wording
from ivjax.evals.dialogue.questions import EvalQuestion, open_questions
from ivjax.evals.dialogue.spans import TimeSpan, lenient_span, overlap, strict_span
from ivjax.evals.result import Result
from ivjax.evals.suites.dialogue import VideoMoments
from ivjax.evals.vectors import Setting

THRESHOLDS = (0.3, 0.5, 0.7)


def score(setting: Setting[Any], suite: VideoMoments) -> Result:
    """Returns R@1 at each threshold of overlap and the mean overlap, in percent."""
    questions = open_questions(setting.data)
    name = suite.protocol or (questions.kind if questions.kind in MOMENTS else "plain")
    wording = moment_wording(name)

    def word(question: EvalQuestion) -> tuple[Wording, tuple[str, ...]]:
        _right_span(question, setting.data.path)  # raises before anything is watched
        return wording(question.text), ()

    asking = Asking(
        list(enumerate(questions)), word, seer_of(suite, questions), "generation", {"protocol": name}
    )
    answered = ask(setting, suite, asking)
    if not answered.questions:
        raise UserError(f"{setting.data.path} has no sentence whose video could be seen")
    right = [_right_span(question, setting.data.path) for question in answered.questions]
    replies = [answer["reply"] for answer in answered.answers]
    strict = [strict_span(reply) for reply in replies]
    lenient = [lenient_span(reply) for reply in replies]
    found = strict if suite.extraction == "strict" else lenient
    metrics = recalls(found, right)
    metrics |= {f"strict_{name}": value for name, value in recalls(strict, right).items()}
    metrics |= {f"lenient_{name}": value for name, value in recalls(lenient, right).items()}
    metrics["no_span"] = round(100 * float(np.mean([span is None for span in found])), 2)
    facts = facts_of_dialogue(setting, suite, len(right)) | {
        "protocol": name,
        "answers by": "greedy generation",
        "extraction": "strict: the only span of the reply, which runs forwards"
        if suite.extraction == "strict"
        else "lenient: the first span by the rules of the original",
        "overlap": "seconds in both spans over those from the first start to the last end",
    }
    return Result(suite.name, facts, metrics, answered.unscored)


def recalls(found: Sequence[TimeSpan | None], right: Sequence[TimeSpan]) -> dict[str, float]:
    """Returns the percentage of spans that overlap with the right ones enough, and the mean overlap."""
    overlaps = np.array(
        [0.0 if one is None else overlap(one, other) for one, other in zip(found, right, strict=True)]
    )
    shares = {f"r1@{threshold:g}": (overlaps >= threshold).mean() for threshold in THRESHOLDS}
    return {name: round(100 * float(value), 2) for name, value in {**shares, "miou": overlaps.mean()}.items()}


def _right_span(question: EvalQuestion, path: str) -> TimeSpan:
    span = strict_span(question.answer)
    if span is None:
        raise UserError(
            f"{path}: the answer of {question.id} is no span of seconds but {question.answer[:60]!r}; give a "
            "test set such as Charades-STA"
        )
    return span
