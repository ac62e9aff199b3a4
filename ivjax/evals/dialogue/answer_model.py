"""A dialogue model as tests ask it: questions about videos become replies, or likelihoods of letters."""

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from ivjax.convert.loading import split_branch
from ivjax.errors import UserError
from ivjax.evals.hosts import Hosts
from ivjax.evals.suites.dialogue import AnswerBy, DialogueSuite
from ivjax.experiment.computing import Compute
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import options_text
from ivjax.experiment.run_folder import CHECKPOINTS, folder_with_weights
from ivjax.generate.answering import Answerer, open_answerer
from ivjax.generate.decoding import Decoding
from ivjax.models.dialogue.model import DialogueModel
from ivjax.ops.cut import Params


@dataclass(frozen=True)
class AnswerModel:
    """A dialogue model under test.

    Attributes:
        answerer: answers questions about videos.
        by: whether answers are generated, or options compared, where the suite leaves it open.
        hosts: which questions this process asks.
        rows: questions at a time.
        frames: frames of the shortest video.
        image: height and width of its frames.
        seeing: how it reads videos, in words.
        style: how it writes conversations, in words.
        mesh: the devices that the parameters lie on (None: the usual one).
        stamp: changes with the weights, so that answers of others are not taken for its own.
    """

    answerer: Answerer
    by: AnswerBy
    hosts: Hosts
    rows: int
    frames: int
    image: tuple[int, int]
    seeing: str
    style: str
    mesh: Mesh | None = None
    stamp: str = ""

    @property
    def is_first(self) -> bool:
        """Whether this process writes files for all of them."""
        return jax.process_index() == 0

    def on_mesh(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the context in which the answerer computes."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)


def of_weights(
    suite: DialogueSuite, path: str, preset: str | None, tokenizer: str | None, mesh: Mesh
) -> AnswerModel:
    """Returns the dialogue model in a run folder or a weight file; each process holds all of it."""
    options = Decoding(new=suite.new)
    answerer = open_answerer(path, preset=preset, tokenizer=tokenizer, options=options, dtype=suite.dtype)
    hosts = Hosts(jax.process_index(), jax.process_count())
    return _model(answerer, suite, "generation", hosts, _stamp(path))


def of_experiment(suite: DialogueSuite, experiment: Experiment, params: Params, mesh: Mesh) -> AnswerModel:
    """Returns the dialogue model of an experiment's stage, whose parameters lie on the devices of a mesh.

    All processes ask all questions, in step: the parameters may be spread over them.
    """
    model, turns = check_experiment(suite, experiment)
    answerer = Answerer(model, params, turns, Decoding(new=suite.new))
    return dataclasses.replace(_model(answerer, suite, "likelihood", Hosts()), mesh=mesh)


def check_experiment(suite: DialogueSuite, experiment: Experiment) -> tuple[DialogueModel, Any]:
    """Returns the dialogue model of an experiment's stage and its field; UserError if it has none."""
    model = experiment.stage.model(Compute(suite.dtype))
    if not isinstance(model, DialogueModel):
        raise UserError(
            f"{type(experiment.stage).__name__} trains a {type(model).__name__}, which answers no questions; "
            "give a dialogue model"
        )
    fields = getattr(experiment.data, "fields", {})
    turns = next((field for field in fields.values() if hasattr(field, "seeing")), None)
    if turns is None:
        raise UserError("data.fields has no conversations (Turns), which say how questions are written")
    return model, turns


def _model(
    answerer: Answerer, suite: DialogueSuite, by: AnswerBy, hosts: Hosts, stamp: str = ""
) -> AnswerModel:
    size, turns = answerer.model.size, answerer.turns
    return AnswerModel(
        answerer,
        by,
        hosts,
        suite.batch,
        size.least_frames,
        size.vision.image,
        options_text(turns.seeing.for_tests().rule),
        options_text(turns.style),
        stamp=stamp,
    )


def _stamp(path: str) -> str:
    """Returns what changes when other weights lie at a path."""
    place = Path(split_branch(path)[0]).expanduser()
    if place.is_dir():
        place = folder_with_weights(place)
        steps = place / CHECKPOINTS
        files = sorted(steps.iterdir() if steps.is_dir() else place.iterdir())
    else:
        files = [place]
    return " ".join(f"{file.name}:{file.stat().st_mtime_ns}" for file in files if file.exists())
