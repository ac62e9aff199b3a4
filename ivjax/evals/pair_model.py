"""Two towers as retrieval and searches read them: clips and texts in one space."""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from ivjax.convert.loading import load
from ivjax.convert.text_vectors import check_reads_words
from ivjax.data_pipelines.load.tokenizers_in_use import caption_tokenizer
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.errors import UserError
from ivjax.evals.compiled import ClipModel, Function, local_mesh
from ivjax.evals.suites.suite import EvalSuite
from ivjax.experiment.computing import Compute, Dtype
from ivjax.experiment.experiment import Experiment
from ivjax.models.dual_tower import DualTower
from ivjax.ops.cut import Params
from ivjax.ops.losses import l2_normalise


class PairModel(ClipModel):
    """A PairEncoder of two towers."""

    feature = "embedding"

    def __init__(
        self,
        model: DualTower,
        params: Params,
        tokenizer: Tokenizer | None,
        batch: int,
        mesh: Mesh,
        small_steps: bool = False,
    ):
        video = _functions(model)[0]
        super().__init__(video, params, model.frames, model.image, batch, mesh, small_steps)
        self._model = model
        self._tokenizer = tokenizer

    def tokens(self, clips: np.ndarray) -> np.ndarray:
        """Returns the last states of all tokens (n, N, C) float32, class tokens first."""
        found: np.ndarray = self.on_own(_functions(self._model)[1], clips)
        return found

    def video_and_tokens(self, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `video` and `tokens` return, in one pass."""
        found: tuple[np.ndarray, np.ndarray] = self.on_own(_functions(self._model)[2], clips)
        return found

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """Returns (n, D) float32 of unit length for n texts, which every process gives alike."""
        if self._tokenizer is None:
            raise UserError("this model was opened without a tokenizer; it can embed clips alone")
        ids = np.stack([self._tokenizer.encode(text) for text in texts])
        return self.on_shared(_functions(self._model)[3], ids)


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
    return check_reads_words(type(experiment.stage).__name__, model, caption_tokenizer(experiment))


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
    model, params, reader = load(path, preset, tokenizer=tokenizer, dtype=dtype, on_host=True)
    return PairModel(check_reads_words(path, model, reader), params, reader, batch, mesh or local_mesh())


@functools.lru_cache(maxsize=8)  # the same functions for the same model, so that they are compiled once
def _functions(model: DualTower) -> tuple[Function, Function, Function, Function]:
    """The unit embedding of clips, the states of their tokens, both, and the unit embedding of token ids."""

    def video(params: Params, clips: jax.Array) -> jax.Array:
        return model.unit_video(params, clips)

    def tokens(params: Params, clips: jax.Array) -> jax.Array:
        return model.tokens(params, clips)

    def both(params: Params, clips: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = model.encode(params, clips)
        return l2_normalise(found.pooled), found.tokens

    def words(params: Params, ids: jax.Array) -> jax.Array:
        return model.unit_words(params, ids)

    return video, tokens, both, words
