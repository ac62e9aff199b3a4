"""Asks a dialogue model the questions of a test set, and keeps the answers."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from ivjax.data_pipelines.store.records import ClipError, Turn
from ivjax.evals.dialogue.answer_model import AnswerModel
from ivjax.evals.dialogue.kept_answers import KeptAnswer, KeptAnswers
from ivjax.evals.dialogue.prompts import Wording
from ivjax.evals.dialogue.questions import EvalQuestion, EvalQuestions
from ivjax.evals.encoding import in_batches
from ivjax.evals.items import UnscoredClip
from ivjax.evals.suites.dialogue import DialogueSuite
from ivjax.evals.vectors import Setting, UnscoredClips, check_share
from ivjax.generate.answering import ScoreRequest
from ivjax.generate.watching import Watched
from ivjax.progress import Progress

# Options that change how fast a test runs, or what of it is kept, and no answer.
_NO_ANSWER = ("answers", "batch", "broken", "limit", "extraction")


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


def ask(
    setting: Setting[Any],
    suite: DialogueSuite,
    questions: EvalQuestions,
    word: Callable[[EvalQuestion], tuple[Wording, tuple[str, ...]]],
    wanted: Callable[[EvalQuestion], bool] = lambda question: True,
    told: Mapping[str, Any] | None = None,
) -> Answered:
    """Returns the answers to all questions whose videos can be seen.

    Args:
        setting: the model and the test set.
        suite: the options.
        questions: the test set.
        word: returns the words of a question, and what is compared of its answer.
        wanted: which questions are asked.
        told: what else decides the answers.
    """
    model: AnswerModel = setting.encoder
    asked = [each for each in enumerate(questions) if isinstance(each[1], UnscoredClip) or wanted(each[1])]
    kept = KeptAnswers(suite.answers, _test(setting, suite, told or {}), model.hosts.index)
    unscored = UnscoredClips(len(asked), setting.broken)
    waiting: list[Worded] = []
    for place, each in model.hosts.share(asked):
        if isinstance(each, UnscoredClip):
            unscored.add(place, each)
        elif place not in kept.found:
            waiting.append(Worded(place, each, *word(each)))
    if known := sum(place in kept.found for place, _ in asked):
        setting.say(f"{known} of {len(asked)} answers are there already, in {suite.answers}")
    try:
        with model.on_mesh(), Progress(len(waiting), "questions", setting.say) as progress:
            for some in in_batches(
                _watched(model, suite, questions, waiting, unscored, progress), model.rows
            ):
                for (worded, _), answer in zip(some, _answers(model, some), strict=True):
                    kept.add(worded.place, answer)
                    progress.advance()
    finally:
        kept.close()
    return _merged(setting, asked, kept, unscored)


def _watched(
    model: AnswerModel,
    suite: DialogueSuite,
    questions: EvalQuestions,
    waiting: Sequence[Worded],
    unscored: UnscoredClips,
    progress: Progress,
) -> Iterator[tuple[Worded, Watched]]:
    """Yields each question with what was seen; questions that follow each other about one video share it."""
    for _, group in itertools.groupby(waiting, lambda worded: _seen_alike(model, worded)):
        first, *others = group
        try:
            watched = model.answerer.watch(questions.inputs(first.question), suite.frames, first.turns)
        except ClipError as error:
            for worded in (first, *others):
                progress.advance()
                unscored.add(worded.place, UnscoredClip(worded.question.id, error.cause, error.detail))
            continue
        for worded in (first, *others):
            yield worded, watched


def _seen_alike(model: AnswerModel, worded: Worded) -> tuple[Any, ...]:
    """Returns what decides what is seen: the media and, for a bridge that reads questions, the words."""
    reads = model.answerer.turns.question is not None
    return (worded.question.media, tuple(worded.turns) if reads else ())


def _answers(model: AnswerModel, some: Sequence[tuple[Worded, Watched]]) -> list[KeptAnswer]:
    answers: list[KeptAnswer] = [{}] * len(some)
    compared = [number for number, (worded, _) in enumerate(some) if worded.letters]
    spoken = [number for number, (worded, _) in enumerate(some) if not worded.letters]
    if compared:
        requests = [
            ScoreRequest(watched, worded.turns, worded.letters, worded.wording.begin)
            for worded, watched in (some[number] for number in compared)
        ]
        for number, scores in zip(compared, model.answerer.score_all(requests), strict=True):
            answers[number] = {"log_likelihoods": [round(float(log), 6) for log in scores.log_likelihoods]}
    if spoken:
        prompts = [
            model.answerer.prompt(watched, worded.turns, begin=worded.wording.begin)
            for worded, watched in (some[number] for number in spoken)
        ]
        for number, reply in zip(spoken, model.answerer.generate(prompts), strict=True):
            answers[number] = {"reply": reply}
    return answers


def _test(setting: Setting[Any], suite: DialogueSuite, told: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what decides the answers."""
    model: AnswerModel = setting.encoder
    options = {field.name: getattr(suite, field.name) for field in fields(suite)}
    decides = {name: value for name, value in options.items() if name not in _NO_ANSWER}
    test = {"suite": suite.name, "weights": setting.weights, "stamp": model.stamp, "data": setting.data.path}
    # As JSON has it: a tuple comes back as a list.
    return {**test, "options": {name: str(value) for name, value in decides.items()}, **told}


def _merged(
    setting: Setting[Any],
    asked: Sequence[tuple[int, EvalQuestion | UnscoredClip]],
    kept: KeptAnswers,
    unscored: UnscoredClips,
) -> Answered:
    own = list(zip(unscored.places, unscored.clips, strict=True))
    shares = setting.encoder.hosts.gather((kept.found, own))
    found = {place: answer for answers, _ in shares for place, answer in answers.items()}
    broken = sorted((each for _, bad in shares for each in bad), key=lambda each: each[0])
    clips = tuple(clip for _, clip in broken)
    check_share(clips, len(asked), setting.broken)
    answered = [(each, found[place]) for place, each in asked if place in found]
    return Answered(
        tuple(each for each, _ in answered if isinstance(each, EvalQuestion)),
        tuple(answer for _, answer in answered),
        clips,
    )
