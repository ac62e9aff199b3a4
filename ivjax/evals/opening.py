"""Opens a model for evals and searches: of clips and captions, of features, of classes."""

import dataclasses
from typing import cast

import jax

from ivjax.convert.loading import load
from ivjax.data_pipelines.tokenizers.base import Tokenizer
from ivjax.errors import UserError
from ivjax.evals.compiled import ClipModel, TwoTowers
from ivjax.evals.features import Feature, Features, features_of, find_encoder
from ivjax.models.internvideo2.classifier import Classifier
from ivjax.models.viclip.towers import ViClip
from ivjax.stages.objective import Params


def open_encoder(
    path: str,
    preset: str | None = None,
    tokenizer: str | None = None,
    batch: int = 32,
    words: bool = True,
) -> TwoTowers:
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


def open_features(
    path: str, preset: str | None = None, batch: int = 32, feature: Feature | None = None
) -> Features:
    """The encoder in a run folder or a weight file, or in a branch of it (PATH#BRANCH), as it is.

    feature: what the encoder `pooled`, or the `mean` of its last states of all patches; None for the first,
    which is what it says of a whole clip and what the originals' linear probes read, unless it pools nothing
    or was trained without ever using that.
    """
    return features_of(path, find_encoder(path, preset), feature, batch)


def open_classifier(path: str, preset: str | None = None, batch: int = 32) -> ClipModel:
    """The classifier in a run folder or a weight file; its vectors are logits."""
    model, params, _ = load(path, preset)
    if not isinstance(model, Classifier):
        raise UserError(f"{path} holds a {type(model).__name__}, which has no classes; give a classifier")

    def logits(params: Params, clips: jax.Array) -> jax.Array:
        return cast(jax.Array, model.apply({"params": params}, clips))

    size = model.size.encoder
    return ClipModel(logits, params, size.frames, size.image, batch)
