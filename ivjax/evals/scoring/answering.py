"""Scores questions about videos: the answer that, written behind the question, fits the clip best."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.data_pipelines.sources.benchmarks.listed_question import KIND
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.tokenizers.caption_text import clean_caption
from ivjax.errors import UserError
from ivjax.evals.dialogue.questions import (
    EvalQuestion,
    EvalQuestions,
    accuracies_by,
    check_kinds,
    open_questions,
)
from ivjax.evals.items import Item, UnscoredClip
from ivjax.evals.judging import embed_for
from ivjax.evals.result import Result, facts_of
from ivjax.evals.scoring.options import option_scores
from ivjax.evals.scoring.rank_metrics import choice_accuracy
from ivjax.evals.suites.answers import VideoAnswers
from ivjax.evals.vectors import Setting

_PLACE = "place"  # the attribute with the number of a medium


def score(setting: Setting[Any], suite: VideoAnswers) -> Result:
    """Returns accuracies in percent, of questions with options and of open ones apart."""
    questions = open_questions(setting.data)
    check_kinds(suite.only, questions)
    watched = _Watched(questions, suite.only)
    embedded, tokens = embed_for(setting, suite, watched, len(watched))
    known = candidates_of(suite, questions)
    asked = [
        _Asked(clip, question, question.options or known)
        for clip, item in enumerate(embedded.items)
        for question in watched.questions_of(item)
    ]
    if not asked:
        raise UserError(f"{setting.data.path} has no question that could be answered")
    texts = [(one.clip, one.texts(suite.wording)) for one in asked]
    scores = list(option_scores(setting.encoder, suite, embedded.vectors, tokens, texts))
    facts = facts_of(setting, len(embedded.items), silent=embedded.silent) | {
        "questions": len(asked),
        "answers by": "the logit of a match" if suite.judges else "cosine",
        "texts are": suite.wording,
        "answers to open questions": _told(suite, known, asked),
        "aggregation of clips": suite.aggregate,
        "kinds of question": list(suite.only) or None,
    }
    groups = _groups(asked, scores)
    return Result(suite.name, facts, _metrics(asked, scores), embedded.unscored, by_group=tuple(groups))


def candidates_of(suite: VideoAnswers, questions: EvalQuestions) -> tuple[str, ...]:
    """Returns the answers that open questions may have: those of a file, or all of the test set."""
    if suite.candidates is None:
        listed = (each for each in questions if isinstance(each, EvalQuestion) and not each.options)
        return tuple(sorted({question.answer for question in listed}))
    file = Path(suite.candidates).expanduser()
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{file} cannot be read: {reason}; name a UTF-8 file of an answer a line") from None
    found = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(found) < 2:
        raise UserError(f"{file} has {len(found)} answers; name a file of 2 or more, one a line")
    return found


@dataclass(frozen=True)
class _Asked:
    """A question about a clip, and the answers that it may have."""

    clip: int
    question: EvalQuestion
    options: Sequence[str]
    right: int = field(init=False)

    def __post_init__(self) -> None:
        question = self.question
        right = question.right if question.options else _place(question.answer, self.options)
        object.__setattr__(self, "right", right)

    def texts(self, wording: str) -> list[str]:
        asked = wording.replace("{question}", self.question.text)
        return [clean_caption(asked.replace("{answer}", option)) for option in self.options]


def _place(answer: str, options: Sequence[str]) -> int:
    """The number of an answer among the candidates; -1 if it is none of them, and so never found."""
    return options.index(answer) if answer in options else -1


class _Watched:
    """Yields each medium once, however many questions are about it, or why questions cannot be asked."""

    def __init__(self, questions: EvalQuestions, kinds: Sequence[str]):
        self._questions = questions
        self._unscored: list[UnscoredClip] = []
        self._about: dict[Any, list[EvalQuestion]] = {}
        for question in questions:
            if isinstance(question, UnscoredClip):
                self._unscored.append(question)
            elif len(question.media) != 1:
                told = f"the question is about {len(question.media)} media, and one clip is looked at"
                self._unscored.append(UnscoredClip(question.id, "several media", told))
            elif question.is_of(kinds):
                self._about.setdefault(question.media, []).append(question)
        self._listed = list(self._about.values())

    def __len__(self) -> int:
        return len(self._listed) + len(self._unscored)

    def __iter__(self) -> Iterator[Item | UnscoredClip]:
        yield from self._unscored
        for place, some in enumerate(self._listed):
            try:
                (seen,) = self._questions.inputs(some[0])
            except ClipError as error:
                yield UnscoredClip(some[0].id, error.cause, error.detail)
                continue
            media: Any = seen.media
            attributes = {_PLACE: str(place)}
            yield Item(
                some[0].id, media, seen.start, seen.end, attributes=attributes, frame_rate=seen.frame_rate
            )

    def questions_of(self, item: Item) -> list[EvalQuestion]:
        """Returns the questions about the medium of an item."""
        return self._listed[int(item.attributes[_PLACE])]


def _metrics(asked: Sequence[_Asked], scores: Sequence[np.ndarray]) -> dict[str, float]:
    listed = [n for n, one in enumerate(asked) if one.question.options]
    opened = [n for n, one in enumerate(asked) if not one.question.options]
    found = _accuracy([asked[n] for n in listed], [scores[n] for n in listed]) if listed else {}
    if opened:
        some = [asked[n] for n in opened]
        metrics = _accuracy(some, [scores[n] for n in opened])
        found |= {f"open_{name}": metrics[name] for name in ("accuracy", "chance")}
        most = Counter(one.question.answer for one in some).most_common(1)[0][1]
        found["open_most_frequent"] = round(100 * most / len(some), 2)
    return found


def _accuracy(asked: Sequence[_Asked], scores: Sequence[np.ndarray]) -> dict[str, float]:
    known = [n for n, one in enumerate(asked) if one.right >= 0]
    # A question whose answer is no candidate counts, and is never answered rightly.
    share = len(known) / len(asked)
    hits = choice_accuracy([scores[n] for n in known], [asked[n].right for n in known]) if known else 0.0
    chance = 100 * float(np.mean([(one.right >= 0) / len(one.options) for one in asked]))
    accuracy = round(share * hits, 2)
    found = {"accuracy": accuracy, "chance": round(chance, 2)}
    return found | ({"times_chance": round(accuracy / chance, 3)} if chance else {})


def _groups(asked: Sequence[_Asked], scores: Sequence[np.ndarray]) -> list[Mapping[str, Any]]:
    def accuracy(some: list[int]) -> dict[str, float]:
        return _accuracy([asked[n] for n in some], [scores[n] for n in some])

    return accuracies_by(KIND, [one.question for one in asked], accuracy)


def _told(suite: VideoAnswers, known: Sequence[str], asked: Sequence[_Asked]) -> str | None:
    if all(one.question.options for one in asked):
        return None
    return f"{len(known)}, " + (f"of {suite.candidates}" if suite.candidates else "all of the test set")
