"""Encoders as probes and `ivjax embed` read them: one vector a clip, or the states of its tokens."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ivjax.convert.loading import load
from ivjax.convert.origins import params_of_run
from ivjax.errors import UserError
from ivjax.evals.compiled import ClipModel, Function, local_mesh
from ivjax.evals.encoding import TokenEncoder
from ivjax.evals.own_frames import split_branch
from ivjax.evals.pair_model import PairModel
from ivjax.evals.suites.suite import Dtype, Feature, FeatureSuite
from ivjax.experiment.computing import Compute
from ivjax.experiment.experiment import Experiment, Stage
from ivjax.experiment.storing import is_run, stored_experiment
from ivjax.models.dual_tower import DualTower
from ivjax.models.sizes import ComposedSize
from ivjax.models.tower import VideoEncoder, VideoTower
from ivjax.ops.cut import Params

_ENCODER = "encoder"  # the branch of a larger model that is read unless another is named


class FoundEncoder(NamedTuple):
    """An encoder; `pools` is False if nobody has trained what it pools with."""

    model: VideoEncoder
    params: Params
    pools: bool = True


class Features(ClipModel):
    """A TokenEncoder of features that are not made for any task; `feature` says which they are."""

    def __init__(self, model: VideoEncoder, params: Params, feature: Feature, batch: int, mesh: Mesh):
        super().__init__(_reader(model, feature), params, model.frames, model.image, batch, mesh)
        self.feature = feature
        self._model, self._asked = model, batch

    def tokens(self, clips: np.ndarray) -> np.ndarray:
        """Returns the last states of all tokens (n, N, C) float32, class tokens first."""
        return self.on_own(_states(self._model), clips)

    def fresh(self) -> "Features":
        """Returns the same model with random parameters, always the same ones."""
        init = jax.jit(type(self._model).init, static_argnums=0)
        # Jitted, because init as separate operations would compile each of them.
        params = init(self._model, jax.random.key(0))
        return Features(self._model, params, self.feature, self._asked, self._mesh)


def of_weights(
    suite: FeatureSuite, path: str, preset: str | None, tokenizer: str | None, mesh: Mesh
) -> Features:
    """Returns the features that a suite reads of the encoder in a run folder, a weight file or a branch."""
    return open_features(path, preset, suite.batch, suite.features, mesh, suite.dtype)


def of_experiment(suite: FeatureSuite, experiment: Experiment, params: Params, mesh: Mesh) -> Features:
    """Returns the features of an encoder of an experiment's stage, whose parameters lie in memory."""
    found = encoder_in_memory(experiment.stage, params, suite.branch, Compute(suite.dtype))
    return _features(type(experiment.stage).__name__, found, suite.features, suite.batch, mesh)


def check_experiment(suite: FeatureSuite, experiment: Experiment) -> None:
    """Raises UserError if an experiment's stage has no such encoder."""
    stage, compute = experiment.stage, Compute(suite.dtype)
    if suite.branch or not isinstance(stage.model(compute), VideoEncoder):
        _branch(type(stage).__name__, stage, suite.branch or _ENCODER, compute.dtype)


def open_features(
    path: str,
    preset: str | None = None,
    batch: int = 32,
    feature: Feature | None = None,
    mesh: Mesh | None = None,
    dtype: Dtype = "float32",
) -> Features:
    """Returns the features of the encoder in a run folder or a weight file, or in a branch (PATH#BRANCH).

    Args:
        path: the run folder or file.
        preset: which model the file holds, where it does not say.
        batch: clips at a time.
        feature: what the encoder `pooled`, or the `mean` of its last states of all patches. None: the first,
            which is what it says of a whole clip and what the originals' linear probes read, unless it pools
            nothing or was trained without ever using that.
        mesh: the devices that compute (None: all of this process).
        dtype: what the model computes in.
    """
    return _features(path, find_encoder(path, preset, dtype), feature, batch, mesh or local_mesh())


def open_embedder(path: str, preset: str | None = None, batch: int = 32) -> TokenEncoder:
    """Returns the model that embeds clips: everything that `open_features` opens.

    The rows of a pair of towers have unit length, because texts are compared with them. Those of any other
    model are its features as they are.
    """
    found = find_encoder(path, preset)
    if isinstance(found.model, DualTower):
        # Without a tokenizer: videos can be embedded where the vocabulary is not at hand.
        return PairModel(found.model, found.params, None, batch, local_mesh())
    return _features(path, found, None, batch, local_mesh())


def _features(path: str, found: FoundEncoder, feature: Feature | None, batch: int, mesh: Mesh) -> Features:
    """Returns pooled features where the pooling was trained, else the mean of the tokens."""
    if feature == "pooled" and not found.model.pools:
        name = type(found.model).__name__
        raise UserError(f"{path} holds a {name}, which pools nothing; leave out --features")
    default: Feature = "pooled" if found.model.pools and found.pools else "mean"
    return Features(found.model, found.params, feature or default, batch, mesh)


def find_encoder(path: str, preset: str | None = None, dtype: Dtype = "float32") -> FoundEncoder:
    """Returns the encoder of FILE, RUN, or of a branch of either: PATH#BRANCH."""
    place, branch = split_branch(path)
    folder = Path(place).expanduser()
    if not is_run(folder):
        model, params, _ = load(folder, preset, dtype=dtype, on_host=True)
        return _encoder_of_file(place, model, params, branch, dtype)
    if preset:
        raise UserError(f"{place} is a run, which knows its sizes: leave out the preset")
    experiment = stored_experiment(folder)
    model = experiment.stage.model(Compute(dtype))
    if isinstance(model, VideoEncoder) and not branch:
        return FoundEncoder(*load(folder, dtype=dtype, on_host=True)[:2])
    encoder = _branch(str(folder), experiment.stage, branch or _ENCODER, dtype)
    params = params_of_run(folder, experiment, branch=branch or _ENCODER)
    return FoundEncoder(encoder, params[branch or _ENCODER], _pools(model, branch or _ENCODER))


def encoder_in_memory(stage: Stage, params: Params, branch: str | None, compute: Compute) -> FoundEncoder:
    """Returns the encoder of a stage whose parameters lie in memory, or that of a branch of them."""
    model = stage.model(compute)
    if isinstance(model, VideoEncoder) and not branch:
        return FoundEncoder(model, params)
    branch = branch or _ENCODER
    encoder = _branch(type(stage).__name__, stage, branch, compute.dtype)
    return FoundEncoder(encoder, params[branch], _pools(model, branch))


@functools.lru_cache(maxsize=8)  # the same function for the same model, so that it is compiled once
def _reader(model: VideoEncoder, feature: Feature) -> Function:

    def mean(params: Params, video: jax.Array) -> jax.Array:
        patches = model.encode(params, video).tokens[:, model.class_tokens :]
        # A mean over thousands of bfloat16 tokens would keep about two digits.
        return patches.astype(jnp.float32).mean(1)

    def pooled(params: Params, video: jax.Array) -> jax.Array:
        return model.encode(params, video).pooled.astype(jnp.float32)

    return mean if feature == "mean" else pooled


@functools.lru_cache(maxsize=8)  # for the same reason
def _states(model: VideoEncoder) -> Function:
    def states(params: Params, video: jax.Array) -> jax.Array:
        return model.encode(params, video).tokens

    return states


def _encoder_of_file(path: str, model: Any, params: Params, branch: str, dtype: Dtype) -> FoundEncoder:
    if isinstance(model, VideoEncoder) and not branch:
        return FoundEncoder(model, params)
    composed: ComposedSize = model.size
    size = composed.encoders().get(branch or _ENCODER)
    if size is None:
        named = f" #{branch}" if branch else ""
        raise UserError(f"{path} holds a {type(model).__name__}, which has no video encoder{named}")
    return FoundEncoder(size.build(Compute(dtype)), params[branch or _ENCODER], composed.trains_pooling())


def _branch(name: str, stage: Stage, branch: str, dtype: Dtype) -> VideoTower:
    """The tower at a branch of a stage's parameters."""
    encoders = stage.encoders()
    if branch not in encoders:
        names = ", ".join(f"{name}#{other}" for other in encoders) or "none"
        raise UserError(f"{name} has no encoder #{branch}; its encoders are {names}")
    return encoders[branch].build(Compute(dtype))


def _pools(model: Any, branch: str) -> bool:
    """Whether the pooling of a branch was trained: teachers were, elsewhere."""
    size: ComposedSize = model.size
    return branch not in size.encoders() or size.trains_pooling()
