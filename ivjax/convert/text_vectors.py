"""Texts as vectors, by the text tower of a pair."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ivjax.data_pipelines.tokenizers.caption_text import clean_caption
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.errors import UserError
from ivjax.models.dual_tower import DualTower
from ivjax.ops.cut import Params

_TEXTS = 256  # that the model reads at a time


def check_reads_words(name: str, model: Any, tokenizer: Tokenizer | None) -> DualTower:
    """Returns the model if it is a pair of towers whose vocabulary the tokenizer has; else UserError."""
    if not isinstance(model, DualTower):
        raise UserError(f"{name} holds a {type(model).__name__}, which reads no captions; give two towers")
    if tokenizer is None:
        raise UserError(f"{name} does not say how captions become tokens; give a run or released weights")
    try:
        tokenizer.encode("a")
    except UserError as error:
        raise UserError(f"{error}; name the file with --tokenizer, in Python with tokenizer=") from None
    # A smaller vocabulary is fine: embedding tables are often padded beyond their words.
    if tokenizer.vocabulary_size > model.size.text.vocabulary:
        raise UserError(
            f"the tokenizer has {tokenizer.vocabulary_size} pieces and the model in {name} "
            f"{model.size.text.vocabulary} words; name its own vocabulary with --tokenizer"
        )
    return model


def text_vectors(model: DualTower, params: Params, tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Returns the unit vector of each text, cleaned as evals clean captions: (n, D) float32."""
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise UserError(f"texts are one string or a list of strings, and one of them is {wrong[0]!r}")
    cleaned = [clean_caption(text) for text in texts]
    if "" in cleaned:
        raise UserError(f"the text {texts[cleaned.index('')]!r} has no words; say something")
    found = [np.zeros((0, model.size.text.out), np.float32)]
    for start in range(0, len(cleaned), _TEXTS):
        ids = np.stack([tokenizer.encode(text) for text in cleaned[start : start + _TEXTS]])
        found.append(_vectors(model, params, ids))
    return np.concatenate(found)


def _vectors(model: DualTower, params: Params, ids: np.ndarray) -> np.ndarray:
    # Filled up to a power of two, so that few shapes are compiled however many texts come.
    full = np.zeros((1 << (len(ids) - 1).bit_length(), ids.shape[1]), ids.dtype)
    full[: len(ids)] = ids
    return np.asarray(_unit_words(model, params, full), np.float32)[: len(ids)]


@functools.partial(jax.jit, static_argnums=0)
def _unit_words(model: DualTower, params: Params, ids: jax.Array) -> jax.Array:
    return model.unit_words(params, ids)
