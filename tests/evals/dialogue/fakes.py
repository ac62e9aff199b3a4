"""An answerer whose replies are written beforehand, for tests of what is made of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.evals.dialogue.answer_model import AnswerModel
from ivjax.evals.hosts import Hosts
from ivjax.evals.items import EvalData
from ivjax.evals.vectors import Setting


class Scores(NamedTuple):
    """As AnswerScores."""

    log_likelihoods: np.ndarray


class Seen(NamedTuple):
    """What stands for a watched video: its name."""

    name: str


class FakeAnswerer:
    """Answers by a function of the video's name and the question's words."""

    def __init__(self, reply: Callable[[str, str], str]):
        self._reply = reply
        self.prompts: list[tuple[str, str, str]] = []  # video, words, beginning of the answer
        self.watched: list[str] = []
        self.frames: list[int | None] = []
        self.turns = SimpleNamespace(question=None)

    def watch(self, inputs, frames=None, turns=()) -> Seen:
        """Returns the name of a video; one with `broken` in its name cannot be read."""
        name = Path(str(inputs[0].media)).stem
        self.watched.append(name)
        self.frames.append(frames)
        if "broken" in name:
            raise ClipError("shorter than a clip", f"{name} has 2 frames and the tower reads 4 at once")
        return Seen(name)

    def prompt(self, watched: Seen, turns: Sequence[Any], begin: str = "") -> tuple[str, str]:
        """Returns what decides the reply."""
        words = "|".join(turn.text for turn in turns)
        self.prompts.append((watched.name, words, begin))
        return watched.name, words

    def generate(self, prompts: Sequence[tuple[str, str]], rows: int = 8) -> list[str]:
        """Returns the replies."""
        return [self._reply(*prompt) for prompt in prompts]

    def score_texts(self, requests) -> list[np.ndarray]:
        """The same of whole answers."""
        return self.score_first(requests)

    def score_first(self, requests, rows=8) -> list[np.ndarray]:
        """Makes the answer that the reply is the likeliest."""
        found = []
        for request in requests:
            said = self._reply(*self.prompt(request.watched, request.turns, request.begin))
            found.append(np.array([-1.0 if answer == said else -5.0 for answer in request.answers]))
        return found


def model_of(reply: Callable[[str, str], str], **fields: Any) -> AnswerModel:
    """A model that replies so."""
    values = {"by": "generation", "hosts": Hosts(), "rows": 2, "frames": 4, "image": (4, 6)}
    values |= {"seeing": "all", "style": "plain", "stamp": "1"}
    return AnswerModel(FakeAnswerer(reply), **(values | fields))


def asking(model: AnswerModel, path: Path, **data: Any) -> Setting[Any]:
    """A test of a model on annotations beside their videos."""
    return Setting(model, EvalData(str(path), **data), "w.safetensors", broken=0.5, say=lambda line: None)
