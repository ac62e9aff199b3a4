"""Asks a dialogue model the questions of a test set, and keeps the answers."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ivjax.data_pipelines.store.records import ClipError, Turn
from ivjax.errors import UserError
from ivjax.evals.dialogue.answer_model import AnswerModel
from ivjax.evals.dialogue.kept_answers import KeptAnswer, KeptAnswers
from ivjax.evals.dialogue.prompts import Wording
from ivjax.evals.dialogue.questions import EvalQuestion, EvalQuestions
from ivjax.evals.encoding import in_batches
from ivjax.evals.items import UnscoredClip
from ivjax.evals.suites.dialogue import AnswerBy, DialogueSuite
from ivjax.evals.vectors import Setting, UnscoredClips, check_share
from ivjax.generate.answering import ScoreRequest
from ivjax.generate.watching import Watched
from ivjax.progress import Progress

T = TypeVar("T")
S = TypeVar("S")

# Options that change how fast a test runs, or what of it is kept, and no answer.
_NO_ANSWER = ("answers", "batch", "broken", "limit", "extraction", "png")


@dataclass(frozen=True)
class Worded:
    """A question as the model is asked it.

    Attributes:
        place: its number in the test set.
        question: the question.
        wording: the words around it.
        letters: what is compared by its likelihood; empty: an answer is generated.
    """

    place: int
    question: EvalQuestion
    wording: Wording
    letters: tuple[str, ...] = ()

    @property
    def turns(self) -> list[Turn]:
        """What is said before the answer."""
        system = self.wording.system or self.question.system
        return [*([Turn("system", system)] if system else []), Turn("user", self.wording.question)]


Numbered = tuple[int, EvalQuestion | UnscoredClip]  # a question and its place in the test set
# Yields each question with what was seen of its media, or with why nothing was.
Seer = Callable[[AnswerModel, Sequence[Worded]], Iterator[tuple[Worded, Watched | ClipError]]]


class Asking(NamedTuple):
    """How the questions of a test set are asked.

    Attributes:
        questions: those that are asked, with their places.
        word: returns the words of a question, and what is compared of its answer.
        see: shows the media of questions; it may take them in any order.
        by: how an option is found.
        told: what else decides the answers, for the file that they are kept in.
    """

    questions: Sequence[Numbered]
    word: Callable[[EvalQuestion], tuple[Wording, tuple[str, ...]]]
    see: Seer
    by: AnswerBy
    told: Mapping[str, Any]


class Answered(NamedTuple):
    """The answers of a test set, the same in every process.

    Attributes:
        questions: those that were answered, in the order of the test set.
        answers: what was said to each.
        unscored: questions that could not be asked.
    """

    questions: tuple[EvalQuestion, ...]
    answers: tuple[KeptAnswer, ...]
    unscored: tuple[UnscoredClip, ...]


def ask(setting: Setting[Any], suite: DialogueSuite, asking: Asking) -> Answered:
    """Returns the answers to all questions whose media can be seen."""
    model: AnswerModel = setting.encoder
    file = suite.answers if model.keeps_answers else None
    asked = {place: _digest(each) for place, each in asking.questions if isinstance(each, EvalQuestion)}
    kept = KeptAnswers(
        file, _test(setting, suite, {"by": asking.by, **asking.told}), asked, model.hosts.index
    )
    if known := sum(place in kept.found for place, _ in asking.questions):
        setting.say(f"{known} of {len(asking.questions)} answers are there already, in {file}")
    unscored, problem = UnscoredClips(len(asking.questions), setting.broken), ""
    try:
        _ask_own(setting, model, asking, kept, unscored)
    except UserError as error:
        problem = str(error)  # the other processes must hear of it, or they would wait for this one
    finally:
        kept.close()
    return _merged(setting, asking.questions, kept, unscored, problem)


def _ask_own(
    setting: Setting[Any], model: AnswerModel, asking: Asking, kept: KeptAnswers, unscored: UnscoredClips
) -> None:
    """Asks this process's share of the questions, those left out that are answered already."""
    waiting: list[Worded] = []
    for place, each in model.hosts.share(asking.questions):
        if isinstance(each, UnscoredClip):
            unscored.add(place, each)
        elif place not in kept.found:
            waiting.append(Worded(place, each, *asking.word(each)))
    with model.on_mesh(), Progress(len(waiting), "questions", setting.say) as progress:
        seen = _readable(asking.see(model, waiting), unscored, progress)
        for some in in_batches(seen, model.rows):
            for (worded, _), answer in zip(some, _answers(model, some, asking.by), strict=True):
                kept.add(worded.place, answer)
                progress.advance()


def seer_of(
    suite: DialogueSuite,
    questions: EvalQuestions,
    frames: Callable[[EvalQuestion], int | None] = lambda question: None,
) -> Seer:
    """Returns what shows the media of a test set, once for neighbouring questions about the same ones.

    `frames` says how many frames of its videos a question is about, where the suite names no number (None:
    those of the model's own rule).
    """

    def watch(model: AnswerModel, worded: Worded) -> Watched | ClipError:
        try:
            # The mesh in context is a thread's own.
            with model.on_mesh():
                inputs = questions.inputs(worded.question)
                return model.answerer.watch(inputs, suite.frames or frames(worded.question), worded.turns)
        except ClipError as error:
            return error

    def see(model: AnswerModel, waiting: Sequence[Worded]) -> Iterator[tuple[Worded, Watched | ClipError]]:
        groups = [list(group) for _, group in itertools.groupby(waiting, lambda one: _seen_alike(model, one))]
        for group, watched in _one_ahead(groups, lambda group: watch(model, group[0]), model.can_overlap):
            for worded in group:
                yield worded, watched

    return see


def _one_ahead(groups: Sequence[T], make: Callable[[T], S], overlap: bool) -> Iterator[tuple[T, S]]:
    """Yields each group with what is made of it; with `overlap`, the next one is under way meanwhile."""
    if not overlap:
        yield from ((group, make(group)) for group in groups)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="watch") as pool:
        try:
            coming = [pool.submit(make, group) for group in groups[:1]]
            for number, group in enumerate(groups):
                coming += [pool.submit(make, following) for following in groups[number + 1 : number + 2]]
                yield group, coming.pop(0).result()
        finally:
            pool.shutdown(cancel_futures=True)


def _seen_alike(model: AnswerModel, worded: Worded) -> tuple[Any, ...]:
    """Returns what decides what is seen: the media and, for a bridge that reads questions, the words."""
    reads = model.answerer.turns.question is not None
    return (worded.question.media, tuple(worded.turns) if reads else ())


def _readable(
    seen: Iterator[tuple[Worded, Watched | ClipError]], unscored: UnscoredClips, progress: Progress
) -> Iterator[tuple[Worded, Watched]]:
    """Yields the questions whose media could be seen; takes note of the others."""
    for worded, watched in seen:
        if isinstance(watched, ClipError):
            progress.advance()
            unscored.add(worded.place, UnscoredClip(worded.question.id, watched.cause, watched.detail))
        else:
            yield worded, watched


def _answers(model: AnswerModel, some: Sequence[tuple[Worded, Watched]], by: AnswerBy) -> list[KeptAnswer]:
    answers: list[KeptAnswer] = [{}] * len(some)
    compared = [number for number, (worded, _) in enumerate(some) if worded.letters]
    spoken = [number for number, (worded, _) in enumerate(some) if not worded.letters]
    if compared:
        requests = [
            ScoreRequest(watched, worded.turns, worded.letters, worded.wording.begin)
            for worded, watched in (some[number] for number in compared)
        ]
        for number, logs in zip(compared, _logs(model, requests, by), strict=True):
            answers[number] = {"log_likelihoods": [round(float(log), 6) for log in logs]}
    if spoken:
        prompts = [
            model.answerer.prompt(watched, worded.turns, begin=worded.wording.begin)
            for worded, watched in (some[number] for number in spoken)
        ]
        if model.rows == 1:
            # One by one a prompt goes on behind what it has in common with the one before.
            replies = ["".join(model.answerer.stream(prompt)) for prompt in prompts]
        else:
            # Filled up, because every other number of rows is compiled anew.
            filled = prompts + [prompts[-1]] * (model.rows - len(prompts))
            replies = model.answerer.generate(filled, rows=model.rows)
        for number, reply in zip(spoken, replies, strict=False):
            answers[number] = {"reply": reply}
    return answers


def _logs(model: AnswerModel, requests: Sequence[ScoreRequest], by: AnswerBy) -> Iterable[np.ndarray]:
    if by == "text":
        return model.answerer.score_texts(requests)
    if model.rows > 1:
        return model.answerer.score_first(requests, rows=model.rows)
    # One by one a prompt goes on behind what it has in common with the one before.
    return (scores.log_likelihoods for scores in model.answerer.score_all(requests))


def _test(setting: Setting[Any], suite: DialogueSuite, told: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what decides the answers."""
    model: AnswerModel = setting.encoder
    options = {field.name: str(getattr(suite, field.name)) for field in fields(suite)}
    decides = {name: value for name, value in options.items() if name not in _NO_ANSWER}
    test = {"suite": suite.name, "weights": setting.weights, "stamp": model.stamp, "data": setting.data.path}
    return {**test, "options": decides, **told}


def _digest(question: EvalQuestion) -> str:
    """Returns what changes with a question, its options or the part of a video that it is about."""
    media = [(medium.record, medium.start, medium.end, medium.frame_rate) for medium in question.media]
    names = [Path(medium.path).name for medium in question.media]  # their folder may move
    told = (question.id, question.system, question.text, question.options, media, names)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _merged(
    setting: Setting[Any],
    asked: Sequence[Numbered],
    kept: KeptAnswers,
    unscored: UnscoredClips,
    problem: str,
) -> Answered:
    own = list(zip(unscored.places, unscored.clips, strict=True))
    shares = setting.encoder.hosts.gather((kept.found, own, problem))
    if problems := [told for *_, told in shares if told]:
        raise UserError(problems[0])
    found = {place: answer for answers, *_ in shares for place, answer in answers.items()}
    clips = tuple(
        clip for _, clip in sorted((each for _, bad, _ in shares for each in bad), key=lambda each: each[0])
    )
    check_share(clips, len(asked), setting.broken, "questions")
    answered = [(each, found[place]) for place, each in asked if place in found]
    return Answered(
        tuple(each for each, _ in answered if isinstance(each, EvalQuestion)),
        tuple(answer for _, answer in answered),
        clips,
    )
