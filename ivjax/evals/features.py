"""Encoders as a probe reads them: one vector a clip, and the same of an encoder that has learnt nothing."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ivjax.convert.loading import load
from ivjax.convert.origins import params_of_run
from ivjax.convert.registry import family_of_sizes
from ivjax.errors import UserError
from ivjax.evals.compiled import ClipModel, Function
from ivjax.evals.suites.probe import Feature
from ivjax.evals.suites.suite import Dtype
from ivjax.experiment.computing import Compute
from ivjax.experiment.storing import is_run, stored_experiment
from ivjax.models.internvideo2.encoder import Encoder, init_encoder
from ivjax.models.internvideo2.student import Student
from ivjax.models.viclip.towers import ViClip, embed_video, init_viclip
from ivjax.models.videomae.encoder import VideoMaeEncoder, init_videomae
from ivjax.stages.objective import Params, Stage

_ENCODER = "encoder"  # the part of a larger model that is probed unless another is named


@dataclass(frozen=True)
class Kind:
    """What a kind of model can give: its own vector of a clip, and the tokens of its patches (B, n, C)."""

    init: Callable[[Any, jax.Array], Params]
    patches: Callable[[Any, Params, jax.Array], jax.Array]
    pooled: Callable[[Any, Params, jax.Array], jax.Array] | None = None


class Found(NamedTuple):
    """An encoder; `pools` is False if nobody has trained what it pools with."""

    model: nn.Module
    params: Params
    pools: bool = True


_KINDS: dict[type[nn.Module], Kind] = {
    Encoder: Kind(
        init_encoder,
        lambda model, params, video: model.apply({"params": params}, video).tokens[:, 1:],
        lambda model, params, video: model.apply({"params": params}, video).pooled,
    ),
    VideoMaeEncoder: Kind(
        init_videomae, lambda model, params, video: model.apply({"params": params}, video)[0]
    ),
    ViClip: Kind(
        init_viclip,
        lambda model, params, video: model.apply({"params": params}, video, method="tokens")[:, 1:],
        embed_video,
    ),
}


class Features(ClipModel):
    """A ClipEncoder of features that are not made for any task; `feature` says which they are."""

    def __init__(self, model: nn.Module, params: Params, feature: Feature, batch: int, mesh: Mesh):
        size: Any = model.vision_size if isinstance(model, ViClip) else model.size
        frames = model.clip_frames if isinstance(model, ViClip) else size.frames
        super().__init__(_reader(model, feature), params, frames, size.image, batch, mesh)
        self.feature = feature
        self._model, self._asked = model, batch

    def fresh(self) -> "Features":
        """Returns the same model with random parameters, always the same ones."""
        init = jax.jit(_KINDS[type(self._model)].init, static_argnums=0)
        params = init(self._model, jax.random.key(0))
        return Features(self._model, params, self.feature, self._asked, self._mesh)


def features_of(path: str, found: Found, feature: Feature | None, batch: int, mesh: Mesh) -> Features:
    """Returns what an encoder pools, where it does and was trained to, else the mean of its tokens."""
    pooled = _KINDS[type(found.model)].pooled
    if feature == "pooled" and pooled is None:
        name = type(found.model).__name__
        raise UserError(f"{path} holds a {name}, which pools nothing; leave out --features")
    default: Feature = "pooled" if pooled is not None and found.pools else "mean"
    return Features(found.model, found.params, feature or default, batch, mesh)


def find_encoder(path: str, preset: str | None = None, dtype: Dtype = "float32") -> Found:
    """Returns the encoder of FILE, RUN, or of a branch of either: PATH#BRANCH."""
    place, branch = _split(path)
    folder = Path(place).expanduser()
    if not is_run(folder):
        model, params, _ = load(folder, preset, dtype=dtype, on_host=True)
        return _part_of_file(place, model, params, branch, dtype)
    if preset:
        raise UserError(f"{place} is a run, which knows its sizes: leave out the preset")
    experiment = stored_experiment(folder)
    model = experiment.stage.model(Compute(dtype))
    if type(model) in _KINDS and not branch:
        return Found(*load(folder, dtype=dtype, on_host=True)[:2])
    encoder = _branch(str(folder), experiment.stage, branch or _ENCODER, dtype)
    params = params_of_run(folder, experiment, branch=branch or _ENCODER)
    return Found(encoder, params[branch or _ENCODER], _pools(model, branch or _ENCODER))


def encoder_in_memory(stage: Stage, params: Params, branch: str | None, compute: Compute) -> Found:
    """Returns the encoder of a stage whose parameters lie in memory, or that of a branch of them."""
    model = stage.model(compute)
    if type(model) in _KINDS and not branch:
        return Found(model, params)
    branch = branch or _ENCODER
    encoder = _branch(type(stage).__name__, stage, branch, compute.dtype)
    return Found(encoder, params[branch], _pools(model, branch))


@functools.lru_cache(maxsize=8)  # the same function for the same model, so that it is compiled once
def _reader(model: nn.Module, feature: Feature) -> Function:
    kind = _KINDS[type(model)]

    def mean(params: Params, video: jax.Array) -> jax.Array:
        return kind.patches(model, params, video).astype(jnp.float32).mean(1)

    def pooled(params: Params, video: jax.Array) -> jax.Array:
        assert kind.pooled is not None
        return kind.pooled(model, params, video).astype(jnp.float32)

    return mean if feature == "mean" else pooled


def _split(path: str) -> tuple[str, str]:
    """PATH and BRANCH; a name that is a file with a # in it is a path."""
    place, _, branch = path.rpartition("#")
    return (place, branch) if place and not Path(path).expanduser().exists() else (path, "")


def _part_of_file(path: str, model: nn.Module, params: Params, branch: str, dtype: Dtype) -> Found:
    if type(model) in _KINDS and not branch:
        return Found(model, params)
    size: Any = getattr(model, "size", None)
    encoder = _model_of(getattr(size, _ENCODER, size), dtype)
    if branch not in ("", _ENCODER) or _ENCODER not in params or encoder is None:
        part = f"part #{branch}" if branch else "encoder"
        raise UserError(f"{path} holds a {type(model).__name__}, which has no {part} that can be probed")
    return Found(encoder, params[_ENCODER], _pools(model, _ENCODER))


def _branch(name: str, stage: Stage, branch: str, dtype: Dtype) -> nn.Module:
    encoders = stage.encoders()
    encoder = _model_of(encoders.get(branch), dtype)
    if encoder is None:
        names = ", ".join(f"{name}#{part}" for part in encoders) or "none"
        raise UserError(f"{name} has no part #{branch} that can be probed; its parts are {names}")
    return encoder


def _model_of(size: Any, dtype: Dtype) -> nn.Module | None:
    """The encoder of these sizes, None if they are not an encoder's."""
    family = family_of_sizes(size)
    model = None if family is None else family.model(size, jnp.dtype(dtype))
    return model if type(model) in _KINDS else None


def _pools(model: nn.Module, branch: str) -> bool:
    """Whether the pooling was trained: a student without a head for what it pools leaves it as it was."""
    return not (isinstance(model, Student) and branch == _ENCODER and model.pooled is None)
