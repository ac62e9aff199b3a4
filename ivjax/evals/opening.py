"""Opens a model of clips and captions for evals and searches."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import NamedSharding

from ivjax.data_pipelines.tokenizers.base import Tokenizer
from ivjax.errors import UserError
from ivjax.loading import load
from ivjax.models.clip import ViClip, embed_video, embed_words
from ivjax.ops.layout import batch_spec
from ivjax.ops.losses import l2_normalise
from ivjax.stages.objective import Params
from ivjax.train.mesh import MeshShape, build_mesh
from ivjax.train.sharding import replicate


def open_encoder(
    path: str,
    preset: str | None = None,
    tokenizer: str | None = None,
    batch: int = 32,
    words: bool = True,
) -> "TwoTowers":
    """The encoder in a run folder or a weight file; `tokenizer` is another vocabulary file than it names.

    Without `words` no vocabulary is needed, and only clips can be embedded.
    """
    loaded = load(path, preset)
    if not isinstance(loaded.model, ViClip):
        raise UserError(f"{path} holds a {type(loaded.model).__name__}, which has no words; give a ViCLIP")
    reader = loaded.tokenizer
    if reader is not None and tokenizer is not None:
        reader = dataclasses.replace(reader, path=tokenizer)  # type: ignore[type-var]
    if words:
        _check_words(path, loaded.model, reader)
    return TwoTowers(loaded.model, loaded.params, reader, batch)


def _check_words(path: str, model: ViClip, tokenizer: Tokenizer | None) -> None:
    """A missing or wrong vocabulary is better met now than after all clips."""
    if tokenizer is None:
        raise UserError(f"{path} does not say how captions become tokens; give a run or released weights")
    try:
        tokenizer.encode("a")
    except UserError as error:
        raise UserError(f"{error}; name the file with --tokenizer") from None
    if tokenizer.vocabulary_size > model.text_size.vocabulary:
        raise UserError(
            f"the tokenizer has {tokenizer.vocabulary_size} pieces and the model in {path} "
            f"{model.text_size.vocabulary} words; name its own vocabulary with --tokenizer"
        )


class TwoTowers:
    """An Encoder: both towers compiled for one batch size, rows split over this host's devices."""

    def __init__(self, model: ViClip, params: Params, tokenizer: Tokenizer | None, batch: int):
        size = model.vision_size
        if batch < 1:
            raise UserError(f"a batch of {batch} clips cannot be; ask for 1 or more")
        self.frames, self.image, self.width = size.frames, size.image, size.out
        mesh = build_mesh(MeshShape(), jax.local_devices())
        self._rows = NamedSharding(mesh, batch_spec())
        self._batch = -(-batch // mesh.size) * mesh.size
        self._params = jax.device_put(params, replicate(mesh))
        self._tokenizer = tokenizer
        self._video = jax.jit(lambda p, x: l2_normalise(embed_video(model, p, x)))
        self._tokens = jax.jit(lambda p, x: model.apply({"params": p}, x, method="tokens"))
        self._words = jax.jit(lambda p, x: l2_normalise(embed_words(model, p, x)))

    def video(self, clips: np.ndarray) -> np.ndarray:
        """See Encoder."""
        return self._in_batches(self._video, clips)

    def tokens(self, clips: np.ndarray) -> np.ndarray:
        """See Encoder."""
        return self._in_batches(self._tokens, clips)

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """See Encoder."""
        if self._tokenizer is None:
            raise UserError("this model was opened without words")
        return self._in_batches(self._words, np.stack([self._tokenizer.encode(text) for text in texts]))

    def _in_batches(self, function: Callable[..., jax.Array], rows: np.ndarray) -> np.ndarray:
        """Rows through a compiled function; the last batch is filled up with copies of its last row."""
        found = []
        for start in range(0, len(rows), self._batch):
            part = rows[start : start + self._batch]
            full = np.concatenate([part, np.repeat(part[-1:], self._batch - len(part), axis=0)])
            out = function(self._params, jax.device_put(full, self._rows))
            found.append(np.asarray(out, np.float32)[: len(part)])
        return np.concatenate(found)
