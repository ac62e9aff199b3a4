"""The tokenizer of a loaded model: the one that its user names, or files that lie beside its weights."""

import dataclasses
from pathlib import Path
from typing import Any

from ivjax.convert.language_file import split_language
from ivjax.convert.text_vectors import check_reads_words
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.data_pipelines.tokenizers.model_files import has_vocabulary
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.errors import UserError
from ivjax.models.dual_tower import DualTower


def named_tokenizer(
    path: str, model: Any, own: Tokenizer | None, tokenizer: str | Path | Tokenizer
) -> Tokenizer:
    """Returns the tokenizer that a user names for the model in `path`; it must fit the model.

    own: how the model makes tokens, whose file a path takes the place of.
    """
    chosen: Tokenizer
    if not isinstance(tokenizer, str | Path):
        if not hasattr(tokenizer, "encode"):
            raise UserError(f"tokenizer must be a vocabulary file or a tokenizer, got {tokenizer!r}")
        chosen = tokenizer
    else:
        if own is None:
            raise UserError(
                f"{path} does not say how captions become tokens, so a vocabulary file is not enough; "
                "give a tokenizer, such as SentencePiece(FILE, length=32)"
            )
        options: Any = own  # the protocol does not say that tokenizers are dataclasses
        chosen = dataclasses.replace(options, path=str(tokenizer))
    if words_of(model) is None or isinstance(model, DualTower):
        check_reads_words(path, model, chosen)
    else:
        check_vocabulary(path, model, chosen)
    return chosen


def tokenizer_beside(path: str, model: Any, own: Tokenizer | None) -> Tokenizer | None:
    """Returns the tokenizer of the model in `path` with the files that lie beside its weights.

    The files of a language model that was read from a folder of its own come first. Without files the
    tokenizer is returned as it is: its first use says what is missing.
    """
    for place in reversed(split_language(path) or (path,)):
        found = Path(place).expanduser()
        folder = found if found.is_dir() else found.parent
        if isinstance(own, ChatTokenizer) and has_vocabulary(folder):
            chosen = dataclasses.replace(own, path=str(folder))
            # A model can be used without the package that reads its words.
            if chosen.readable:
                check_vocabulary(path, model, chosen)
            return chosen
        file = folder / getattr(own, "FILE", "")
        if not getattr(own, "path", "-") and file.is_file():
            options: Any = own  # the protocol does not say that tokenizers are dataclasses
            return dataclasses.replace(options, path=str(file))
    return own


def check_vocabulary(path: str, model: Any, tokenizer: Tokenizer) -> None:
    """Raises if a tokenizer has more ids than the model in `path` has embeddings."""
    # Fewer are fine: tables are often padded beyond their words.
    words, ids = words_of(model), tokenizer.vocabulary_size
    if words is not None and ids > words:
        raise UserError(
            f"the tokenizer {getattr(tokenizer, 'path', '')} has {ids} ids and the model in {path} has "
            f"{words} embeddings; give the model's own with tokenizer="
        )


def words_of(model: Any) -> int | None:
    """Returns how many ids a model has embeddings for; None for one that reads no ids."""
    size = getattr(model, "size", None)
    found: int | None = getattr(size, "vocabulary", None)
    return found
