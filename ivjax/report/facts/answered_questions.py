"""Questions of a test set with the answers that an eval has kept of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ivjax.data_pipelines.sources.benchmarks.listed_question import KIND
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError
from ivjax.evals.dialogue.choosing import chosen
from ivjax.evals.dialogue.kept_answers import KeptAnswer, read_answers
from ivjax.evals.dialogue.letters import plain_words
from ivjax.evals.dialogue.prompts import PROTOCOLS, choice_protocol
from ivjax.evals.dialogue.questions import EvalQuestion, EvalQuestions, open_questions
from ivjax.evals.items import EvalData
from ivjax.evals.suites.dialogue import answers_beside
from ivjax.experiment.experiment import Experiment
from ivjax.models.dialogue.sizes import DialogueSize
from ivjax.report.facts.dialogue_videos import frames_seen, turns_of_run
from ivjax.report.facts.eval_results import EvalResult


class Said(NamedTuple):
    """What a model said, or the option that it chose, and whether that is right."""

    label: str
    words: str
    right: bool


class AnsweredQuestion(NamedTuple):
    """A question and what models said.

    Attributes:
        question: its words.
        options: the options; none of an open question.
        answer: the right answer.
        said: what each model said.
        kind: the kind of question, or "".
        frames: what the first model sees of the video, (F, H, W, 3) uint8; None where it cannot be read.
    """

    question: str
    options: tuple[str, ...]
    answer: str
    said: tuple[Said, ...]
    kind: str
    frames: np.ndarray | None


class AnsweredSample(NamedTuple):
    """Questions that are evenly spread over a test set, and how many all models have answered."""

    questions: tuple[AnsweredQuestion, ...]
    answered: int


def answers_file(result: EvalResult) -> Path:
    """Returns the file in which `ivjax eval --out` keeps the answers beside a result."""
    return answers_beside(result.file)


def answered_questions(
    results: Mapping[str, EvalResult], experiment: Experiment, count: int
) -> AnsweredSample:
    """Returns some questions that all results of one test set have answers to, with these.

    `results` are named by what the page calls their models; `experiment` is that of the first.
    """
    first = next(iter(results.values()))
    kept = {label: _kept(answers_file(result)) for label, result in results.items()}
    common = set.intersection(*(set(answers) for answers in kept.values()))
    questions = open_questions(_data_of(first))
    asked = {n: each for n, each in enumerate(questions) if n in common and isinstance(each, EvalQuestion)}
    if not asked:
        raise UserError(f"{answers_file(first)} has no answer to a question of {first.data}")
    spread = np.unique(np.linspace(0, len(asked) - 1, count).round().astype(int))
    seer = _Seer(questions, experiment, first.protocol.get("frames"))
    found = []
    for place in (sorted(asked)[number] for number in spread):
        question = asked[place]
        said = tuple(_said(label, question, kept[label][place], results[label]) for label in results)
        told = (question.text, question.options, question.answer, said, ", ".join(question.values(KIND)))
        found.append(AnsweredQuestion(*told, seer.frames(question)))
    return AnsweredSample(tuple(found), len(common))


def _data_of(result: EvalResult) -> EvalData:
    """Returns the test set of a result; what it does not say is taken as usual."""
    kind, videos = (result.protocol.get(name) for name in ("kind of the data", "folder of the videos"))
    options = result.protocol.get("options of the data")
    return EvalData(
        result.data,
        kind=kind if isinstance(kind, str) else "auto",
        videos=videos if isinstance(videos, str) else None,
        options=options if isinstance(options, dict) else {},
    )


class _Seer:
    """Reads the videos of questions as a run does."""

    def __init__(self, questions: EvalQuestions, experiment: Experiment, most: Any):
        self._questions, self._turns = questions, turns_of_run(experiment)
        self._size: DialogueSize = experiment.stage.size
        self._most = most if isinstance(most, int) else None

    def frames(self, question: EvalQuestion) -> np.ndarray | None:
        """Returns the frames of a question's first video; None where it cannot be read."""
        if not question.media:
            return None
        try:
            video = self._questions.inputs(question)[0]
            return frames_seen(self._turns, self._size, video, self._most)
        except (ClipError, UserError):
            return None


def _kept(file: Path) -> dict[int, KeptAnswer]:
    """Returns the answers in a file by the places of their questions in the test set."""
    try:
        return read_answers(file)
    except OSError:
        raise UserError(f"{file} is not there, which holds the answers") from None


def _said(label: str, question: EvalQuestion, answer: Any, result: EvalResult) -> Said:
    reply = str(answer.get("reply", ""))
    if not question.options:
        return Said(label, reply, plain_words(reply) == plain_words(question.answer))
    name = str(result.protocol.get("protocol", "")).partition(":")[0]
    option = chosen(question, answer, choice_protocol(name if name in PROTOCOLS else "plain"))
    return Said(label, reply if option is None else question.options[option], option == question.right)
