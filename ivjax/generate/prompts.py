"""Prompts of different lengths as one batch: filled up on the left, to one of a few lengths."""

import reprlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ivjax.errors import UserError

Ids = Sequence[int] | np.ndarray  # token ids of a prompt


class Prompts(NamedTuple):
    """A batch of prompts. Their last tokens stand side by side, so that new tokens do too.

    Attributes:
        x: (B, L, C) embeddings, whatever stands before a prompt.
        starts: (B,) int32, where each prompt starts.
        visual: (B, L) bool, which tokens are visual; None: none.
        seen: (B, V) bool, which tokens of the vocabulary are in the prompt; None: not asked for.
    """

    x: jax.Array
    starts: jax.Array
    visual: jax.Array | None = None
    seen: jax.Array | None = None


def id_rows(rows: Sequence[Ids]) -> list[np.ndarray]:
    """Returns the token ids of each prompt as an array; raises if they are none."""
    found = [np.asarray(row) for row in rows]
    if not found:
        raise UserError("there are no prompts; give one or more")
    for number, (row, ids) in enumerate(zip(rows, found, strict=True)):
        # An empty list has no dtype of its own, and is refused as such.
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise UserError(
                f"prompt {number} must be a list of token ids, got {reprlib.repr(row)}; "
                "prompts are one list for each text"
            )
    return found


def padded_length(tokens: int, chunk: int) -> int:
    """Returns the length that prompts of up to `tokens` tokens are filled up to.

    A multiple of `chunk`; of 16 chunks and more, at most an eighth more than needed: so few lengths are met,
    each of which is compiled once.
    """
    chunks = max(-(-tokens // chunk), 1)
    step = 1 << max(chunks.bit_length() - 4, 0)
    return -(-chunks // step) * step * chunk


def bucket_length(tokens: int, chunk: int) -> int:
    """Returns `padded_length`, and below a chunk the next power of two."""
    return padded_length(tokens, min(chunk, 1 << (tokens - 1).bit_length()))


def on_the_right(rows: Sequence[Ids], length: int, fill: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns token ids (B, length) int32 that end together, and where each row starts (B,) int32."""
    ids = np.full((len(rows), length), fill, np.int32)
    for row, tokens in zip(ids, rows, strict=True):
        if len(tokens):
            row[-len(tokens) :] = tokens
    return ids, np.array([length - len(tokens) for tokens in rows], np.int32)


def tokens_in(rows: Sequence[Ids], vocabulary: int) -> np.ndarray:
    """Returns which tokens of the vocabulary are in each row: (B, vocabulary) bool."""
    seen = np.zeros((len(rows), vocabulary), bool)
    for row, tokens in zip(seen, rows, strict=True):
        ids = np.asarray(tokens, np.int64)
        # The id of a visual token may be no word.
        row[ids[(ids >= 0) & (ids < vocabulary)]] = True
    return seen
