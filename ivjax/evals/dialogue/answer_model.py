"""A dialogue model as tests ask it: questions about videos become replies, or likelihoods of letters."""

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ivjax.convert.loading import load, split_branch
from ivjax.data_pipelines.fields import Turns
from ivjax.data_pipelines.load.mixture import readers_of
from ivjax.errors import UserError
from ivjax.evals.compiled import placed
from ivjax.evals.hosts import Hosts
from ivjax.evals.suites.dialogue import AnswerBy, DialogueSuite
from ivjax.experiment.buckets import address_of, local
from ivjax.experiment.computing import Compute
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import options_text
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.run_folder import CHECKPOINTS, checkpoint_steps, folder_with_weights
from ivjax.generate.answering import Answerer, turns_of
from ivjax.generate.decoding import Decoding
from ivjax.models.bridge import Question
from ivjax.models.dialogue.model import DialogueModel
from ivjax.ops.cut import Params
from ivjax.ops.layout import ACTIVATION_AXES
from ivjax.train.mesh import build_mesh

_CLIPS = 8  # of a video that are encoded at a time, at most


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
    def keeps_answers(self) -> bool:
        """Whether answers can be kept: not where all processes ask all questions, and must agree on which."""
        return self.hosts.count == jax.process_count()

    @property
    def can_overlap(self) -> bool:
        """Whether two threads may compute at once.

        On several devices their programs could start in another order on each, and wait for each other.
        """
        return self.mesh is None or self.mesh.size == 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files for all of them."""
        return jax.process_index() == 0

    def on_mesh(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the context in which the answerer computes."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)


@dataclass(frozen=True)
class Blindfolded(DialogueModel):
    """A dialogue model that sees black frames, whatever it is shown."""

    def see(
        self,
        params: Params,
        video: jax.Array,
        question: Question | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """See DialogueModel."""
        return super().see(params, jnp.zeros_like(video), question, keys)


def of_weights(
    suite: DialogueSuite, path: str, preset: str | None, tokenizer: str | None, mesh: Mesh
) -> AnswerModel:
    """Returns the dialogue model in a run folder or a weight file, for the devices of a mesh.

    Of several processes each holds all of the model and asks its share of the questions, unless `fsdp`
    spreads the parameters over more devices than one process has: then all ask all questions, in step.
    """
    # On the host: the devices of the mesh get their parts from there, and need not hold all of them at once.
    loaded = load(path, preset, tokenizer=tokenizer, dtype=suite.dtype, on_host=True)
    turns = turns_of(loaded)
    own, hosts = mesh, Hosts()
    if jax.process_count() > 1 and mesh.shape["fsdp"] <= jax.local_device_count():
        own = build_mesh(MeshShape(fsdp=mesh.shape["fsdp"]), jax.local_devices())
        hosts = Hosts(jax.process_index(), jax.process_count())
    # In the dtype that the model computes in they are read without a cast at each token.
    params = jax.tree.map(lambda leaf: np.asarray(leaf, suite.dtype), loaded.params)
    found = _model(suite, loaded.model, placed(params, own), turns, own)
    return dataclasses.replace(found, hosts=hosts, by="generation", stamp=_stamp(path))


def of_experiment(suite: DialogueSuite, experiment: Experiment, params: Params, mesh: Mesh) -> AnswerModel:
    """Returns the dialogue model of an experiment's stage, whose parameters lie on the devices of a mesh.

    All processes ask all questions, in step: the parameters may be spread over them.
    """
    model, turns = check_experiment(suite, experiment)
    return _model(suite, model, params, turns, mesh)


def check_experiment(suite: DialogueSuite, experiment: Experiment) -> tuple[DialogueModel, Turns]:
    """Returns the dialogue model of an experiment's stage and its field; UserError if it has none."""
    model = experiment.stage.model(Compute(suite.dtype))
    if not isinstance(model, DialogueModel):
        raise UserError(
            f"{type(experiment.stage).__name__} trains a {type(model).__name__}, which answers no questions; "
            "give a dialogue model"
        )
    fields = [field for reader in readers_of(experiment.data).values() for field in reader.fields.values()]
    turns = next((field for field in fields if isinstance(field, Turns)), None)
    if turns is None:
        raise UserError("data.fields has no conversations (Turns), which say how questions are written")
    return model, turns


def _model(
    suite: DialogueSuite, model: DialogueModel, params: Params, turns: Turns, mesh: Mesh
) -> AnswerModel:
    ways = math.prod(mesh.shape[axis] for axis in ACTIVATION_AXES["batch"])
    if suite.unmerged:
        model, turns = without_merging(model, turns)
    if suite.blind:
        model = Blindfolded(model.size, model.tower, model.bridge, model.language)
    size, rule = model.size, turns.seeing.for_tests().rule
    # Clips at a time: no more than a video has, whose batches would be filled up.
    video = suite.most_frames or rule.frames
    clips = max(min(_CLIPS, video // size.least_frames), 1)
    return AnswerModel(
        Answerer(model, params, turns, Decoding(new=suite.new), clips=clips),
        by="likelihood",
        hosts=Hosts(),
        rows=suite.batch if suite.batch == 1 else -(-suite.batch // ways) * ways,
        frames=size.least_frames,
        image=size.vision.image,
        seeing=options_text(rule),
        style=options_text(turns.style),
        mesh=mesh,
    )


def without_merging(model: DialogueModel, turns: Turns) -> tuple[DialogueModel, Turns]:
    """Returns the model that merges nothing, whose parameters are the same, and how it reads videos."""
    size = model.size.unmerged()
    if size is None:
        raise UserError("the model's bridge has no merging that could be left out; drop unmerged")
    seeing = dataclasses.replace(
        turns.seeing,
        clip_tokens=size.visual_tokens(size.least_frames),
        image_tokens=size.visual_tokens(1) if turns.seeing.image_tokens else 0,
    )
    return size.build(model.language.compute), dataclasses.replace(turns, seeing=seeing)


def _stamp(path: str) -> str:
    """Returns what changes when other weights lie at a path."""
    place = local(split_branch(path)[0]).expanduser()
    if place.is_dir():
        place = folder_with_weights(place)
        if address := address_of(place):
            return f"{address}: {checkpoint_steps(place)}"
        steps = place / CHECKPOINTS
        files = sorted(steps.iterdir() if steps.is_dir() else place.iterdir())
    else:
        files = [place]
    return " ".join(f"{file.name}:{file.stat().st_mtime_ns}" for file in files if file.exists())
