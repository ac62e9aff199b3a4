"""Two towers as retrieval and searches read them: clips, or their sound, and texts in one space."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ivjax.convert.loading import load
from ivjax.convert.text_vectors import check_reads_words
from ivjax.data_pipelines.load.tokenizers_in_use import caption_tokenizer
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.errors import UserError
from ivjax.evals.compiled import ClipModel, Function, local_mesh
from ivjax.evals.hearing import Hearing
from ivjax.evals.suites.suite import PairSuite
from ivjax.experiment.computing import Compute, Dtype
from ivjax.experiment.experiment import Experiment
from ivjax.models.dual_tower import DualTower
from ivjax.models.media_towers import MediaTowers
from ivjax.models.sizes import Compared
from ivjax.ops.cut import Params
from ivjax.ops.losses import l2_normalise


class PairModel(ClipModel):
    """A PairEncoder of two towers.

    Attributes:
        medium: what of a clip is compared with texts.
        towers: the two towers.
    """

    feature = "embedding"

    def __init__(
        self,
        model: DualTower,
        params: Params,
        tokenizer: Tokenizer | None,
        batch: int,
        mesh: Mesh,
        small_steps: bool = False,
        medium: Compared = "video",
    ):
        video, hearing = _functions(model, medium)[0], _hearing(model, medium)
        super().__init__(video, params, model.frames, model.image, batch, mesh, small_steps, hearing)
        self.medium = medium
        self.towers = model
        self._tokenizer = tokenizer

    def tokens(self, clips: np.ndarray) -> np.ndarray:
        """Returns the last states of all tokens (n, N, C) float32, class tokens first."""
        found: np.ndarray = self.on_own(_functions(self.towers, self.medium)[1], clips)
        return found

    def video_and_tokens(self, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `video` and `tokens` return, in one pass."""
        found: tuple[np.ndarray, np.ndarray] = self.on_own(_functions(self.towers, self.medium)[2], clips)
        return found

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """Returns (n, D) float32 of unit length for n texts, which every process gives alike."""
        return self.on_shared(_functions(self.towers, self.medium)[3], self.ids_of(texts))

    def ids_of(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the token ids (n, L) of n texts."""
        if self._tokenizer is None:
            raise UserError("this model was opened without a tokenizer; it can embed clips alone")
        return np.stack([self._tokenizer.encode(text) for text in texts])

    def word_states(self, texts: Sequence[str]) -> list[np.ndarray] | None:
        """Returns the states (words, C) float32 of each text; None if the text tower gives none."""
        if not self.towers.text.gives_words:
            return None
        ids, size = self.ids_of(texts), self.towers.text.size
        states, pad = self.on_shared(_reading(self.towers), ids), getattr(size, "pad", 0)
        return [row[some != pad] for row, some in zip(states, ids, strict=True)]

    @property
    def temperature(self) -> float:
        """What training divided cosines by."""
        return float(self._params["temperature"])

    @property
    def judging(self) -> MediaTowers:
        """The towers, if they can judge whether a text belongs to a clip; else raises UserError."""
        return check_judges("the model", self.towers, self.medium)


def of_weights(
    suite: PairSuite, path: str, preset: str | None, tokenizer: str | None, mesh: Mesh
) -> PairModel:
    """Returns the pair of towers in a run folder or a weight file, for a suite."""
    found = open_pairs(path, preset, tokenizer, suite.batch, mesh, suite.dtype, suite.medium)
    if suite.judges:
        check_judges(path, found.towers, suite.medium)
    return found


def of_experiment(suite: PairSuite, experiment: Experiment, params: Params, mesh: Mesh) -> PairModel:
    """Returns the pair of towers of an experiment's stage, whose parameters lie in memory."""
    model = check_experiment(suite, experiment)
    tokenizer = caption_tokenizer(experiment)
    return PairModel(model, params, tokenizer, suite.batch, mesh, medium=suite.medium)


def check_experiment(suite: PairSuite, experiment: Experiment) -> DualTower:
    """Returns the pair of towers of an experiment's stage; UserError if it has none, or has no tokenizer."""
    model = experiment.stage.model(Compute(suite.dtype))
    name = type(experiment.stage).__name__
    found = check_medium(name, check_reads_words(name, model, caption_tokenizer(experiment)), suite.medium)
    return check_judges(name, found, suite.medium) if suite.judges else found


def open_pairs(
    path: str,
    preset: str | None = None,
    tokenizer: str | None = None,
    batch: int = 32,
    mesh: Mesh | None = None,
    dtype: Dtype = "float32",
    medium: Compared = "video",
) -> PairModel:
    """Returns the pair of towers in a run folder or a weight file.

    Args:
        path: the run folder or file.
        preset: which model the file holds, where it does not say.
        tokenizer: another vocabulary file than the model names.
        batch: clips at a time.
        mesh: the devices that compute (None: all of this process).
        dtype: what the model computes in.
        medium: what of a clip is compared with texts.
    """
    model, params, reader = load(path, preset, tokenizer=tokenizer, dtype=dtype, on_host=True)
    pair = check_medium(path, check_reads_words(path, model, reader), medium)
    return PairModel(pair, params, reader, batch, mesh or local_mesh(), medium=medium)


def check_medium(name: str, model: DualTower, medium: Compared) -> DualTower:
    """Returns a pair of towers if a medium of clips has an embedding in it; else raises UserError."""
    media = model.media if isinstance(model, MediaTowers) else ("video",)
    if medium not in media:
        there = " and of ".join(_TOLD[each] for each in media)
        raise UserError(
            f"{name} has no embedding of {_TOLD[medium]}, only of {there}; choose another medium, or a model "
            "of stage 2 that was trained with it"
        )
    return model


def check_judges(name: str, model: DualTower, medium: Compared) -> MediaTowers:
    """Returns a pair of towers if it can judge texts beside a medium of clips; else raises UserError."""
    if isinstance(model, MediaTowers) and medium in model.judged:
        return model
    raise UserError(
        f"{name} cannot judge whether a text belongs to {_TOLD[medium]}; compare by cosines alone (rerank=0, "
        "compare=cosine), or give a model of stage 2 that was trained to match them"
    )


_TOLD: Mapping[Compared, str] = {"video": "clips", "audio": "sounds", "both": "clips with their sound"}


def _hearing(model: DualTower, medium: Compared) -> Hearing | None:
    if medium == "video" or not isinstance(model, MediaTowers) or model.sound_shape is None:
        return None
    return Hearing(*model.sound_shape, alone=medium == "audio")


@functools.lru_cache(maxsize=8)
def _reading(model: DualTower) -> Function:
    """The states of all tokens of texts."""

    def states(params: Params, ids: jax.Array) -> jax.Array:
        return model.text.word_states(params["text"], ids)

    return states


def media_of(rows: Any, medium: Compared) -> tuple[Any, Any]:
    """Returns the pictures and the sound of rows, or None."""
    if medium == "both":
        return rows[0], rows[1]
    return (rows, None) if medium == "video" else (None, rows)


# The same functions for the same model, so that they are compiled once.
@functools.lru_cache(maxsize=8)
def _functions(model: DualTower, medium: Compared) -> tuple[Function, Function, Function, Function]:
    """The unit embedding of clips, the states of their tokens, both, and the unit embedding of token ids."""

    def video(params: Params, clips: Any) -> jax.Array:
        if medium == "video" or not isinstance(model, MediaTowers):
            return model.unit_video(params, clips)
        return l2_normalise(model.features(params, medium, *media_of(clips, medium)).embedding)

    def tokens(params: Params, clips: jax.Array) -> jax.Array:
        return model.tokens(params, clips)

    def both(params: Params, clips: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = model.encode(params, clips)
        return l2_normalise(found.pooled), found.tokens

    def words(params: Params, ids: jax.Array) -> jax.Array:
        return model.unit_words(params, ids)

    return video, tokens, both, words
