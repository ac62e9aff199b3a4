"""Encoders as probes and `ivjax embed` read them: one vector a clip, or the states of its tokens."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ivjax.convert.loading import Loaded, load, tower_inside, tower_of_stage
from ivjax.errors import UserError
from ivjax.evals.compiled import ClipModel, Function, local_mesh
from ivjax.evals.encoding import TokenEncoder
from ivjax.evals.pair_model import PairModel, check_medium
from ivjax.evals.suites.suite import Feature, FeatureSuite
from ivjax.experiment.computing import Compute, Dtype
from ivjax.experiment.experiment import Experiment, Stage
from ivjax.models.dual_tower import DualTower
from ivjax.models.sizes import Compared
from ivjax.models.tower import Encoded, VideoEncoder
from ivjax.ops.cut import Params

_ENCODER = "encoder"  # the branch of a larger model that is read unless another is named


class FoundEncoder(NamedTuple):
    """An encoder; `pools` is False if nobody has trained what it pools with."""

    model: VideoEncoder
    params: Params
    pools: bool = True


class Features(ClipModel):
    """A TokenEncoder of features that are not made for any task; `feature` says which they are."""

    def __init__(
        self,
        model: VideoEncoder,
        params: Params,
        feature: Feature,
        batch: int,
        mesh: Mesh,
        small_steps: bool = False,
    ):
        function = _functions(model, feature)[0]
        super().__init__(function, params, model.frames, model.image, batch, mesh, small_steps)
        self.feature = feature
        self._model, self._asked = model, batch

    def tokens(self, clips: np.ndarray) -> np.ndarray:
        """Returns the last states of all tokens (n, N, C) float32, class tokens first."""
        found: np.ndarray = self.on_own(_functions(self._model, self.feature)[1], clips)
        return found

    def video_and_tokens(self, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `video` and `tokens` return, in one pass."""
        found: tuple[np.ndarray, np.ndarray] = self.on_own(_functions(self._model, self.feature)[2], clips)
        return found

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
        tower_of_stage(type(stage).__name__, stage, suite.branch or _ENCODER, compute.dtype)


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


def open_embedder(
    path: str,
    preset: str | None = None,
    batch: int = 32,
    feature: Feature | None = None,
    medium: Compared = "video",
) -> TokenEncoder:
    """Returns the model that embeds clips: everything that `open_features` opens; see `embedder_of`."""
    return embedder_of(load(path, preset, on_host=True), feature, batch, local_mesh(), medium)


def embedder_of(
    loaded: Loaded, feature: Feature | None, batch: int, mesh: Mesh, medium: Compared = "video"
) -> TokenEncoder:
    """Returns what embeds clips by the video tower of a model, or what a `medium` of them is embedded by.

    The rows of a pair of towers have unit length, because texts are compared with them. Those of any other
    model are its features as they are, and so are the `mean` patches of a pair.
    """
    if medium != "video":
        if not isinstance(loaded.model, DualTower):
            name = type(loaded.model).__name__
            raise UserError(f"{loaded.path} holds a {name}, which hears nothing; give a model of stage 2")
        if feature == "mean":
            raise UserError("the mean of patches is one of pictures; leave it out, or take the medium video")
        model = check_medium(loaded.path, loaded.model, medium)
        return PairModel(model, loaded.params, None, batch, mesh, small_steps=True, medium=medium)
    found = encoder_of(loaded)
    if isinstance(found.model, DualTower) and feature != "mean":
        # Without a tokenizer: videos can be embedded where the vocabulary is not at hand.
        return PairModel(found.model, found.params, None, batch, mesh, small_steps=True)
    return _features(loaded.path, found, feature, batch, mesh, small_steps=True)


def _features(
    path: str, found: FoundEncoder, feature: Feature | None, batch: int, mesh: Mesh, small_steps: bool = False
) -> Features:
    """Returns pooled features where the pooling was trained, else the mean of the tokens."""
    if feature == "pooled" and not found.model.pools:
        name = type(found.model).__name__
        raise UserError(
            f"{path} holds a {name}, which pools nothing; ask for the mean of its patches (--mean of `ivjax "
            "embed`, --features mean of `ivjax eval`, in Python 'mean')"
        )
    default: Feature = "pooled" if found.model.pools and found.pools else "mean"
    return Features(found.model, found.params, feature or default, batch, mesh, small_steps)


def find_encoder(path: str, preset: str | None = None, dtype: Dtype = "float32") -> FoundEncoder:
    """Returns the encoder of FILE, RUN, or of a branch of either: PATH#BRANCH."""
    # On the host: the devices of the mesh get their parts from there, and need not hold all of them at once.
    return encoder_of(load(path, preset, dtype=dtype, on_host=True))


def encoder_of(loaded: Loaded) -> FoundEncoder:
    """Returns the video tower of a model: itself, or the one inside it."""
    if isinstance(loaded.model, VideoEncoder):
        return FoundEncoder(loaded.model, loaded.params, loaded.pools)
    tower, pools = tower_inside(loaded, _ENCODER)
    return FoundEncoder(tower, loaded.params[_ENCODER], pools)


def encoder_in_memory(stage: Stage, params: Params, branch: str | None, compute: Compute) -> FoundEncoder:
    """Returns the encoder of a stage whose parameters lie in memory, or that of a branch of them."""
    model = stage.model(compute)
    if isinstance(model, VideoEncoder) and not branch:
        return FoundEncoder(model, params)
    branch = branch or _ENCODER
    tower, pools = tower_of_stage(type(stage).__name__, stage, branch, compute.dtype)
    return FoundEncoder(tower, params[branch], pools)


@functools.lru_cache(maxsize=16)  # the same functions for the same model, so that they are compiled once
def _functions(model: VideoEncoder, feature: Feature) -> tuple[Function, Function, Function]:
    """One vector of a clip, the last states of its tokens, and both."""

    def vector(found: Encoded) -> jax.Array:
        if feature == "pooled":
            return found.pooled.astype(jnp.float32)
        # A mean over thousands of bfloat16 tokens would keep about two digits.
        return found.tokens[:, model.class_tokens :].astype(jnp.float32).mean(1)

    def video(params: Params, clips: jax.Array) -> jax.Array:
        return vector(model.encode(params, clips))

    def tokens(params: Params, clips: jax.Array) -> jax.Array:
        return model.encode(params, clips).tokens

    def both(params: Params, clips: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = model.encode(params, clips)
        return vector(found), found.tokens

    return video, tokens, both
