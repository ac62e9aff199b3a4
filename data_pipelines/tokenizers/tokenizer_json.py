"""Tokenizers in a `tokenizer.json`, as Qwen2 and Qwen2.5 come with, read by the package tokenizers."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ivjax.data_pipelines.tokenizers.tokenizer import fit, vocabulary_file, without_surrogates
from ivjax.errors import UserError
from ivjax.experiment.ranges import Count

PUBLIC_NAME = "tokenizer.json, beside the weights of the language model (Qwen/Qwen2-7B-Instruct and others)"


@dataclass(frozen=True)
class TokenizerJson:
    """Ids of a `tokenizer.json`. The defaults are those of Qwen2's chat models.

    A text that is too long is cut before its end token. Special tokens written out inside a text are read as
    plain text, so that no caption can end a turn. What the file says of templates, cutting and padding is not
    used: `start`, `end` and `length` say it.

    Attributes:
        path: the file.
        length: ids of one text.
        prefix: what stands before every text.
        start, end: the token before the prefix, and the one after the text ("": none).
        pad: the token that fills up.
        added: further special tokens, such as `<image>`; their ids follow those of the file.
        pieces: how many ids there must be, with those of `added`; None: any number.
    """

    path: str = ""
    length: Count = 512
    prefix: str = ""
    start: str = ""
    end: str = "<|im_end|>"
    pad: str = "<|endoftext|>"
    added: tuple[str, ...] = ()
    pieces: Count | None = None

    FILE: ClassVar[str] = "tokenizer.json"  # what it is called beside weights

    @property
    def vocabulary_size(self) -> int:
        """The number of ids, with added tokens. The table of a model may have more rows."""
        return self._opened().size

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of the prefix and a text, cut or padded: (length,) int32."""
        ids = (
            self._opened()
            .tokenizer.encode(without_surrogates(self.prefix + text), add_special_tokens=False)
            .ids
        )
        start, end = ([self.special(token)] if token else [] for token in (self.start, self.end))
        return fit(start, ids, end, self.length, self.special(self.pad))

    def special(self, token: str) -> int:
        """Returns the id of a token by its text, such as `<|im_start|>`."""
        found: int | None = self._opened().tokenizer.token_to_id(token)
        if found is None:
            raise UserError(
                f"{self.path} has no token {token!r}; name one that it has as start, end or pad of the "
                "tokenizer, or add it by added"
            )
        return found

    def _opened(self) -> "_Opened":
        return _load(self.path, self.added, self.pieces)


class _Opened(NamedTuple):
    tokenizer: Any
    size: int


@functools.cache
def _load(path: str, added: tuple[str, ...], pieces: int | None) -> _Opened:
    file = vocabulary_file(path, "language model's", PUBLIC_NAME, "copy it from there")
    tokenizer = read_tokenizer_json(file)
    # The file may hold the settings of whoever saved it last.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    tokenizer.add_special_tokens(list(added))
    # By the largest id and not by their number, which is smaller where a file leaves ids out.
    size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if pieces not in (None, size):
        raise UserError(
            f"{file} has {size} ids with {len(added)} added tokens, and the tokenizer wants {pieces}; take "
            "the file that belongs to the language model"
        )
    return _Opened(tokenizer, size)


def read_tokenizer_json(file: Path) -> Any:
    """Returns the package's tokenizer of a file; UserError if it is none, or the package is missing."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError(
            f"{file} is read by the package tokenizers, which is not installed: "
            "pip install 'ivjax[tokenizers]'"
        ) from None
    try:
        return Tokenizer.from_file(str(file))
    # The package raises bare exceptions.
    except Exception as error:
        raise UserError(f"{file} is not a tokenizer.json ({error}); get the file again") from None
