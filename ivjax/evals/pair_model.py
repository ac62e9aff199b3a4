"""Two towers as retrieval and searches read them: clips and texts in one space."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ivjax.convert.loading import load
from ivjax.data_pipelines.load.tokenizers_in_use import caption_tokenizer
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.errors import UserError
from ivjax.evals.compiled import ClipModel, Function, local_mesh
from ivjax.evals.suites.suite import Dtype, EvalSuite
from ivjax.experiment.computing import Compute
from ivjax.experiment.experiment import Experiment
from ivjax.models.dual_tower import DualTower
from ivjax.ops.cut import Params
from ivjax.ops.losses import l2_normalise


class PairModel(ClipModel):
    """A PairEncoder of two towers."""

    feature = "embedding"

    def __init__(self, model: DualTower, params: Params, tokenizer: Tokenizer | None, batch: int, mesh: Mesh):
        video = _functions(model)[0]
        super().__init__(video, params, model.frames, model.image, batch, mesh)
        self._model = model
        self._tokenizer = tokenizer

    def tokens(self, clips: np.ndarray) -> np.ndarray:
        """Returns the last states of all tokens (n, N, C) float32, class tokens first."""
        return self.on_own(_functions(self._model)[1], clips)

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """Returns (n, D) float32 of unit length for n texts, which every process gives alike."""
        if self._tokenizer is None:
            raise UserError("this model was opened without a tokenizer; it can embed clips alone")
        ids = np.stack([self._tokenizer.encode(text) for text in texts])
        return self.on_shared(_functions(self._model)[2], ids)


def of_weights(
    suite: EvalSuite, path: str, preset: str | None, tokenizer: str | None, mesh: Mesh
) -> PairModel:
    """Returns the pair of towers in a run folder or a weight file, for a suite."""
    return open_pairs(path, preset, tokenizer, suite.batch, mesh=mesh, dtype=suite.dtype)


def of_experiment(suite: EvalSuite, experiment: Experiment, params: Params, mesh: Mesh) -> PairModel:
    """Returns the pair of towers of an experiment's stage, whose parameters lie in memory."""
    model = check_experiment(suite, experiment)
    return PairModel(model, params, caption_tokenizer(experiment), suite.batch, mesh)


def check_experiment(suite: EvalSuite, experiment: Experiment) -> DualTower:
    """Returns the pair of towers of an experiment's stage; UserError if it has none, or has no tokenizer."""
    model = experiment.stage.model(Compute(suite.dtype))
    return _checked(type(experiment.stage).__name__, model, caption_tokenizer(experiment))


def open_pairs(
    path: str,
    preset: str | None = None,
    tokenizer: str | None = None,
    batch: int = 32,
    mesh: Mesh | None = None,
    dtype: Dtype = "float32",
) -> PairModel:
    """Returns the pair of towers in a run folder or a weight file.

    Args:
        path: the run folder or file.
        preset: which model the file holds, where it does not say.
        tokenizer: another vocabulary file than the model names.
        batch: clips at a time.
        mesh: the devices that compute (None: all of this process).
        dtype: what the model computes in.
    """
    model, params, reader = load(path, preset, dtype=dtype, on_host=True)
    if reader is not None and tokenizer is not None:
        options: Any = reader  # the protocol does not say that tokenizers are dataclasses
        reader = dataclasses.replace(options, path=tokenizer)
    pair = _checked(path, model, reader)
    return PairModel(pair, params, reader, batch, mesh or local_mesh())


def _checked(name: str, model: Any, tokenizer: Tokenizer | None) -> DualTower:
    if not isinstance(model, DualTower):
        raise UserError(f"{name} holds a {type(model).__name__}, which reads no captions; give two towers")
    # A missing or wrong vocabulary is better met now than after all clips.
    if tokenizer is None:
        raise UserError(f"{name} does not say how captions become tokens; give a run or released weights")
    try:
        tokenizer.encode("a")
    except UserError as error:
        raise UserError(f"{error}; name the file with --tokenizer") from None
    # A smaller vocabulary is fine: embedding tables are often padded beyond their words.
    if tokenizer.vocabulary_size > model.size.text.vocabulary:
        raise UserError(
            f"the tokenizer has {tokenizer.vocabulary_size} pieces and the model in {name} "
            f"{model.size.text.vocabulary} words; name its own vocabulary with --tokenizer"
        )
    return model


@functools.lru_cache(maxsize=8)  # the same functions for the same model, so that they are compiled once
def _functions(model: DualTower) -> tuple[Function, Function, Function]:
    """The unit embedding of clips, the states of their tokens, the unit embedding of token ids."""

    def video(params: Params, clips: jax.Array) -> jax.Array:
        return l2_normalise(model.video(params, clips))

    def tokens(params: Params, clips: jax.Array) -> jax.Array:
        return model.tokens(params, clips)

    def words(params: Params, ids: jax.Array) -> jax.Array:
        return l2_normalise(model.words(params, ids))

    return video, tokens, words
