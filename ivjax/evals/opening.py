"""Opens models for evals and searches: of clips and captions, of features, of classes."""

import dataclasses
import functools
from typing import Any

import jax
from jax.sharding import Mesh

from ivjax.convert.loading import load
from ivjax.data_pipelines.load.mixture import tokenizer_of
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.errors import UserError
from ivjax.evals.compiled import ClipModel, Function, PairModel
from ivjax.evals.features import Features, encoder_in_memory, features_of, find_encoder
from ivjax.evals.suites.probe import Feature
from ivjax.evals.suites.suite import Dtype, EvalSuite
from ivjax.experiment.computing import Compute
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.classifier import Classifier
from ivjax.models.dual_tower import DualTower
from ivjax.stages.objective import Params
from ivjax.train.mesh import build_mesh


def open_weights(
    suite: EvalSuite, path: str, preset: str | None, tokenizer: str | None, mesh: Mesh
) -> ClipModel:
    """Returns what a suite reads of the model in a run folder or a weight file, on the devices of a mesh."""
    if suite.reads == "pairs":
        return open_pairs(path, preset, tokenizer, suite.batch, mesh=mesh, dtype=suite.dtype)
    if suite.reads == "features":
        feature = getattr(suite, "features", None)
        return open_features(path, preset, suite.batch, feature, mesh=mesh, dtype=suite.dtype)
    return open_classifier(path, preset, suite.batch, mesh=mesh, dtype=suite.dtype)


def open_experiment(suite: EvalSuite, experiment: Experiment, params: Params, mesh: Mesh) -> ClipModel:
    """Returns what a suite reads of a model in memory; parameters that lie on the mesh are not copied."""
    compute, name = Compute(suite.dtype), type(experiment.stage).__name__
    if suite.reads == "features":
        branch, feature = getattr(suite, "branch", None), getattr(suite, "features", None)
        found = encoder_in_memory(experiment.stage, params, branch, compute)
        return features_of(name, found, feature, suite.batch, mesh)
    model: Any = experiment.stage.model(compute)
    if suite.reads == "pairs":
        return _pairs(name, model, params, tokenizer_of(experiment.data), suite.batch, mesh)
    return _classifier(name, model, params, suite.batch, mesh)


def open_pairs(
    path: str,
    preset: str | None = None,
    tokenizer: str | None = None,
    batch: int = 32,
    words: bool = True,
    mesh: Mesh | None = None,
    dtype: Dtype = "float32",
) -> PairModel:
    """Returns the model of clips and captions in a run folder or a weight file.

    Args:
        path: the run folder or file.
        preset: which model the file holds, where it does not say.
        tokenizer: another vocabulary file than the model names.
        batch: clips at a time.
        words: whether captions are embedded too; without them no vocabulary is needed.
        mesh: the devices that compute (None: all of this process).
        dtype: what the model computes in.
    """
    model, params, reader = load(path, preset, dtype=dtype, on_host=True)
    if reader is not None and tokenizer is not None:
        reader = dataclasses.replace(reader, path=tokenizer)
    return _pairs(path, model, params, reader, batch, mesh or local_mesh(), words)


def open_features(
    path: str,
    preset: str | None = None,
    batch: int = 32,
    feature: Feature | None = None,
    mesh: Mesh | None = None,
    dtype: Dtype = "float32",
) -> Features:
    """Returns the features of the encoder in a run folder or a weight file, or in a branch (PATH#BRANCH).

    feature: what the encoder `pooled`, or the `mean` of its last states of all patches; None for the first,
    which is what it says of a whole clip and what the originals' linear probes read, unless it pools nothing
    or was trained without ever using that.
    """
    return features_of(path, find_encoder(path, preset, dtype), feature, batch, mesh or local_mesh())


def open_classifier(
    path: str,
    preset: str | None = None,
    batch: int = 32,
    mesh: Mesh | None = None,
    dtype: Dtype = "float32",
) -> ClipModel:
    """Returns the classifier in a run folder or a weight file; its vectors are logits."""
    model, params, _ = load(path, preset, dtype=dtype, on_host=True)
    return _classifier(path, model, params, batch, mesh or local_mesh())


def local_mesh() -> Mesh:
    """Returns the mesh of this process's devices, each with other clips."""
    return build_mesh(MeshShape(), jax.local_devices())


def _pairs(
    name: str,
    model: Any,
    params: Params,
    tokenizer: Tokenizer | None,
    batch: int,
    mesh: Mesh,
    words: bool = True,
) -> PairModel:
    if not isinstance(model, DualTower):
        raise UserError(f"{name} holds a {type(model).__name__}, which reads no captions; give a ViCLIP")
    if words:
        _check_words(name, model, tokenizer)
    return PairModel(model, params, tokenizer, batch, mesh)


def _check_words(name: str, model: DualTower, tokenizer: Tokenizer | None) -> None:
    # A missing or wrong vocabulary is better met now than after all clips.
    if tokenizer is None:
        raise UserError(f"{name} does not say how captions become tokens; give a run or released weights")
    try:
        tokenizer.encode("a")
    except UserError as error:
        raise UserError(f"{error}; name the file with --tokenizer") from None
    if tokenizer.vocabulary_size > model.size.text.vocabulary:
        raise UserError(
            f"the tokenizer has {tokenizer.vocabulary_size} pieces and the model in {name} "
            f"{model.size.text.vocabulary} words; name its own vocabulary with --tokenizer"
        )


def _classifier(name: str, model: Any, params: Params, batch: int, mesh: Mesh) -> ClipModel:
    if not isinstance(model, Classifier):
        raise UserError(f"{name} holds a {type(model).__name__}, which has no classes; give a classifier")
    size = model.size.encoder
    return ClipModel(_logits(model), params, size.frames, size.image, batch, mesh)


@functools.lru_cache(maxsize=8)  # the same function for the same model, so that it is compiled once
def _logits(model: Classifier) -> Function:
    def logits(params: Params, clips: jax.Array) -> jax.Array:
        return model.logits(params, clips)

    return logits
