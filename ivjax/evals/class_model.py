"""A classifier as tests in several views read it: clips as logits."""

import functools
from typing import Any

import jax
from jax.sharding import Mesh

from ivjax.convert.loading import load
from ivjax.errors import UserError
from ivjax.evals.compiled import ClipModel, Function, local_mesh
from ivjax.evals.suites.suite import EvalSuite
from ivjax.experiment.computing import Compute, Dtype
from ivjax.experiment.experiment import Experiment
from ivjax.models.classifier import Classifier
from ivjax.ops.cut import Params


def of_weights(
    suite: EvalSuite, path: str, preset: str | None, tokenizer: str | None, mesh: Mesh
) -> ClipModel:
    """Returns the classifier in a run folder or a weight file, for a suite; it has no use for a tokenizer."""
    return open_classifier(path, preset, suite.batch, mesh, suite.dtype)


def of_experiment(suite: EvalSuite, experiment: Experiment, params: Params, mesh: Mesh) -> ClipModel:
    """Returns the classifier of an experiment's stage, whose parameters lie in memory."""
    return _compiled(check_experiment(suite, experiment), params, suite.batch, mesh)


def check_experiment(suite: EvalSuite, experiment: Experiment) -> Classifier:
    """Returns the classifier of an experiment's stage; UserError if it has none."""
    return _checked(type(experiment.stage).__name__, experiment.stage.model(Compute(suite.dtype)))


def open_classifier(
    path: str,
    preset: str | None = None,
    batch: int = 32,
    mesh: Mesh | None = None,
    dtype: Dtype = "float32",
) -> ClipModel:
    """Returns the classifier in a run folder or a weight file; its vectors are logits."""
    # On the host: the devices of the mesh get their parts from there, and need not hold all of them at once.
    model, params, _ = load(path, preset, dtype=dtype, on_host=True)
    return _compiled(_checked(path, model), params, batch, mesh or local_mesh())


def _checked(name: str, model: Any) -> Classifier:
    if not isinstance(model, Classifier):
        raise UserError(f"{name} holds a {type(model).__name__}, which has no classes; give a classifier")
    return model


def _compiled(model: Classifier, params: Params, batch: int, mesh: Mesh) -> ClipModel:
    size = model.size.encoder
    return ClipModel(_logits(model), params, size.frames, size.image, batch, mesh)


@functools.lru_cache(maxsize=8)  # the same function for the same model, so that it is compiled once
def _logits(model: Classifier) -> Function:
    def logits(params: Params, clips: jax.Array) -> jax.Array:
        return model.logits(params, clips)

    return logits
