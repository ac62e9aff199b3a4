"""Searches an index for the rows that are nearest to some words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ivjax.data_pipelines.tokenizers.caption_text import clean_caption
from ivjax.embed.index import Index
from ivjax.embed.media_list import found_from
from ivjax.errors import UserError
from ivjax.evals.encoding import PairEncoder
from ivjax.evals.scoring.similarity import strips
from ivjax.evals.vectors import embed_texts

_QUERIES = 8  # texts that the model reads at a time
_COLUMNS = ("video", "start", "end", "text")


@dataclass(frozen=True)
class Hit:
    """A row of an index: a part of a video, in seconds, or a text, and its cosine with the query."""

    score: float
    video: str | None = None
    start: float | None = None
    end: float | None = None
    text: str | None = None

    def __str__(self) -> str:
        if self.text is not None:
            return f"{self.score:.4f}  {self.text}"
        return f"{self.score:.4f}  {self.video}  {self.start:.2f}-{self.end:.2f} s"

    def as_dict(self) -> dict[str, Any]:
        """Returns the values that are not None, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def open_for(
    index: Index, weights: str | None = None, preset: str | None = None, tokenizer: str | None = None
) -> PairEncoder:
    """Returns the model that an index was made with, or the one of other weights; it reads texts."""
    from ivjax.evals.pair_model import open_pairs

    origin = index.origin
    if origin.feature != "embedding":
        raise UserError(
            f"{index.path} holds {origin.feature} features of {origin.weights}, which have no likeness to "
            "words; embed the videos with two towers"
        )
    if weights is None:
        weights = found_from(origin.weights, origin.folder)
        preset = preset or origin.preset
    if tokenizer is None and origin.tokenizer is not None:
        tokenizer = found_from(origin.tokenizer, origin.folder)
    return open_pairs(weights, preset, tokenizer, _QUERIES)


def search(index: Index, encoder: PairEncoder, queries: Sequence[str], top: int = 5) -> list[list[Hit]]:
    """Returns the best `top` hits of each query, best first; of windows that overlap, the best one.

    The embeddings are multiplied a block at a time: only a few rows of scores are held beside them.
    """
    if top < 1:
        raise UserError(f"--top must be 1 or more, got {top}")
    cleaned = [clean_caption(query) for query in queries]
    if "" in cleaned:
        raise UserError(f"the query {queries[cleaned.index('')]!r} has no words; say what to look for")
    width = index.embeddings.shape[1]
    if encoder.width != width:
        raise UserError(
            f"{index.path} holds embeddings of {width} numbers and the model makes {encoder.width}; "
            f"search with the weights it was made with ({index.origin.weights})"
        )
    vectors = embed_texts(encoder, cleaned)
    return [_best(index, scores, top) for strip in strips(vectors, index.embeddings) for scores in strip]


def _best(index: Index, scores: np.ndarray, top: int) -> list[Hit]:
    hits: list[Hit] = []
    # All rows are sorted, because nobody knows how many of the best ones overlap.
    # Stable: of equal scores the earlier row comes first, on every machine.
    for row in np.argsort(-scores, kind="stable"):
        hit = _hit(index, int(row), float(scores[row]))
        if not any(_overlap(hit, better) for better in hits):
            hits.append(hit)
        if len(hits) == top:
            break
    return hits


def _hit(index: Index, row: int, score: float) -> Hit:
    known = {name: values[row].item() for name, values in index.columns.items() if name in _COLUMNS}
    return Hit(score, **known)


def _overlap(one: Hit, other: Hit) -> bool:
    if one.video is None or one.video != other.video:
        return False
    assert one.start is not None and one.end is not None
    assert other.start is not None and other.end is not None
    return max(one.start, other.start) < min(one.end, other.end)
