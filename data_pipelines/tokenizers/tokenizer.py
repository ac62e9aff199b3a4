"""The protocol of tokenizers, and token ids of a fixed length."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ivjax.errors import UserError


class Tokenizer(Protocol):
    """Options that name a vocabulary. Each process loads the vocabulary when it first uses it."""

    @property
    def length(self) -> int:
        """The number of ids of one text, padding included."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """The number of ids; every id is below it."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a text, cut or padded as the original does: (length,) int32."""
        ...


def fit(start: Sequence[int], ids: Sequence[int], end: Sequence[int], length: int, pad: int) -> np.ndarray:
    """Returns `start`, as many ids as fit, `end`, and padding: (length,) int32."""
    room = length - len(start) - len(end)
    if room < 0:
        raise UserError(f"a tokenizer of length {length} has no room for its special tokens; make it longer")
    row = np.full(length, pad, np.int32)
    # The end token always stays: CLIP's text encoder pools there.
    kept = [*start, *ids[:room], *end]
    row[: len(kept)] = kept
    return row


def vocabulary_file(
    path: str,
    kind: str,
    public_name: str,
    otherwise: str = "or train a SentencePiece model with `ivjax data tokenizer train` and use that",
) -> Path:
    """Returns the path of a vocabulary; raises if no file is there.

    `public_name` is what the file is called where it is published; `otherwise` is what else a user can do.
    """
    if not path:
        raise UserError(
            f"the {kind} tokenizer has no vocabulary file: set its path to {public_name}, {otherwise}"
        )
    found = Path(path).expanduser()
    if not found.is_file():
        raise UserError(
            f"the {kind} vocabulary {found} is missing: it is published as {public_name}; {otherwise}"
        )
    return found
