"""Searches an index for the rows that are nearest to some words, or to other videos."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.tokenizers.caption_text import clean_caption
from ivjax.embed.index import Index
from ivjax.embed.media_list import MediaList, found_from
from ivjax.embed.windows import PlannedVideo, Windowing, plan_windows
from ivjax.errors import UserError
from ivjax.evals.encoding import ClipEncoder, PairEncoder, TokenEncoder
from ivjax.evals.hearing import hearing_of, stacked
from ivjax.evals.items import UnscoredClip
from ivjax.evals.scoring.similarity import strips
from ivjax.evals.vectors import embed_texts
from ivjax.evals.views import VideoView, read_views

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


@dataclass(frozen=True)
class VideoSearch:
    """How queries that are videos become vectors.

    Attributes:
        encoder: the model.
        view: which frames and which part of the picture it reads, if it sees.
    """

    encoder: TokenEncoder
    view: VideoView


def open_for(
    index: Index, weights: str | None = None, preset: str | None = None, tokenizer: str | None = None
) -> PairEncoder:
    """Returns the model that an index was made with, or the one of other weights; it reads texts."""
    from ivjax.evals.pair_model import open_pairs

    origin = index.origin
    if origin.feature != "embedding":
        raise UserError(
            f"{index.path} holds {origin.feature} features of {origin.weights}, which have no likeness to "
            "words; search it by a video (--video FILE), or embed the videos with two towers"
        )
    if tokenizer is None and origin.tokenizer is not None:
        tokenizer = found_from(origin.tokenizer, origin.folder)
    return open_pairs(*_weights_for(index, weights, preset), tokenizer, _QUERIES)


def open_for_videos(
    index: Index, weights: str | None = None, preset: str | None = None, medium: str | None = None
) -> VideoSearch:
    """Returns how queries that are videos are embedded: as an index's rows were, or by another medium."""
    from ivjax.evals.features import open_embedder
    from ivjax.evals.own_frames import own_frames_of, reading_of

    path, preset = _weights_for(index, weights, preset)
    kept: Any = index.origin.feature
    own: Any = medium or index.origin.medium
    encoder = open_embedder(path, preset, _QUERIES, None if kept == "embedding" else kept, own)
    if encoder.feature != kept:
        raise UserError(
            f"{index.path} holds {kept} features and {path} makes {encoder.feature} ones; search with the "
            f"weights it was made with ({index.origin.weights})"
        )
    return VideoSearch(encoder, reading_of(own_frames_of(path), encoder.frames, clips=1).views[0])


def _weights_for(index: Index, weights: str | None, preset: str | None) -> tuple[str, str | None]:
    """The weights that are asked for, else those of the index, and their preset."""
    if weights is not None:
        return weights, preset
    return found_from(index.origin.weights, index.origin.folder), preset or index.origin.preset


def search(index: Index, encoder: PairEncoder, queries: Sequence[str], top: int = 5) -> list[list[Hit]]:
    """Returns the best `top` hits of each query, best first; of windows that overlap, the best one."""
    cleaned = [clean_caption(query) for query in queries]
    if "" in cleaned:
        raise UserError(f"the query {queries[cleaned.index('')]!r} has no words; say what to look for")
    _check_width(index, encoder)
    return nearest(index, embed_texts(encoder, cleaned), top)


def search_by_videos(
    index: Index, searcher: VideoSearch, media: MediaList, top: int = 5
) -> dict[str, list[Hit]]:
    """Returns the best `top` hits of each video, whole, by its name."""
    encoder = searcher.encoder
    _check_width(index, encoder)
    hearing = hearing_of(encoder)
    planned = list(plan_windows(media, Windowing(), searcher.view, hearing))
    views = [view for video in planned if isinstance(video, PlannedVideo) for view in video.views]
    results = iter(list(read_views(views, encoder.frames, encoder.image, hearing=hearing)))
    names, frames = [], []
    for video in planned:
        found = video if isinstance(video, UnscoredClip) else next(results)
        if isinstance(found, UnscoredClip | ClipError):
            name = video.clip if isinstance(video, UnscoredClip) else video.windows[0].video
            raise UserError(f"the video {name} cannot be looked for: {found}; name another one")
        assert isinstance(video, PlannedVideo)
        names.append(video.windows[0].video)
        frames.append(found)
    return dict(zip(names, nearest(index, _unit(encoder.video(stacked(frames))), top), strict=True))


def nearest(index: Index, vectors: np.ndarray, top: int) -> list[list[Hit]]:
    """Returns the best `top` rows for each unit vector (n, D), by their cosines.

    The embeddings are multiplied a block at a time: only a few rows of scores are held beside them.
    """
    if top < 1:
        raise UserError(f"--top must be 1 or more, got {top}")
    # Those of two towers have unit length already, and may fill most of the memory.
    rows = index.embeddings if index.origin.feature == "embedding" else _unit(index.embeddings)
    return [_best(index, scores, top) for strip in strips(vectors, rows) for scores in strip]


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: np.ndarray = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def _check_width(index: Index, encoder: ClipEncoder) -> None:
    width = index.embeddings.shape[1]
    if encoder.width != width:
        raise UserError(
            f"{index.path} holds embeddings of {width} numbers and the model makes {encoder.width}; "
            f"search with the weights it was made with ({index.origin.weights})"
        )


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
