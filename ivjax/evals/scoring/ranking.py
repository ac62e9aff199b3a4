"""Text to video and video to text retrieval."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ivjax.data_pipelines.store.clips import is_corpus
from ivjax.data_pipelines.tokenizers.text import clean_caption, join_paragraph
from ivjax.errors import UserError
from ivjax.evals.vectors import Setting, embed, embed_texts
from ivjax.evals.encoding import Encoder
from ivjax.evals.items import EvalData, UnscoredClip, Item, open_items
from ivjax.evals.scoring.metrics import find_ranks, retrieval_metrics
from ivjax.evals.suites.protocols import Protocol, protocol_named
from ivjax.evals.result import Result, facts_of
from ivjax.evals.scoring.similarity import Scoring, strips

Ties = Literal["expected", "originals"]


@dataclass(frozen=True)
class RetrievalOptions:
    """How retrieval is scored.

    ties: of candidates that score the same, `expected` takes their mean order, `originals` puts the right
    one first from text to video, where a model that gives all videos one vector finds everything.
    """

    protocol: str = "none"
    scoring: Scoring = Scoring()
    ties: Ties = "expected"


@dataclass(frozen=True)
class Pairs:
    """Texts as the model reads them, and who belongs to whom."""

    texts: tuple[str, ...]
    videos_of: tuple[tuple[int, ...], ...]  # of each text
    texts_of: tuple[tuple[int, ...], ...]  # of each video


def retrieve(setting: Setting[Encoder], options: RetrievalOptions = RetrievalOptions()) -> Result:
    """Scores all captions of a test set against all its videos."""
    protocol = protocol_named(options.protocol)
    stored = is_corpus(setting.data.path)
    opened = open_items(with_options(setting.data, protocol))
    items = opened if stored else list(merge_media(opened))
    captioned = _Captioned(items, protocol.paragraph)
    embedded = embed(setting, captioned, len(items))
    if not embedded.items:
        raise UserError(f"no clip of {setting.data.path} has a caption; retrieval needs captions")
    pairs = pair([item.captions for item in embedded.items], protocol.same_text)
    texts = embed_texts(setting.encoder, pairs.texts)
    metrics = score(texts, embedded.vectors, pairs, options)
    facts = facts_of(setting, len(embedded.items)) | {
        "captions": len(pairs.texts),
        "clips without captions": captioned.without,
        **_stated(options, protocol, stored),
    }
    return Result("retrieval", facts, metrics, embedded.faults)


def score(
    texts: np.ndarray, videos: np.ndarray, pairs: Pairs, options: RetrievalOptions = RetrievalOptions()
) -> dict[str, float]:
    """Metrics of the vectors of texts (m, D) and videos (n, [clips,] D), never holding all m x n scores.

    `r1_chance` is what random scores would reach, `tied` the share of queries with an equal wrong answer.
    """
    t2v = find_ranks(strips(texts, videos, options.scoring), pairs.videos_of)
    v2t = find_ranks(strips(videos, texts, options.scoring), pairs.texts_of)
    if options.ties == "originals":
        metrics = retrieval_metrics(t2v.places("first"), v2t.places("middle"))
    else:
        metrics = retrieval_metrics(t2v.places(), v2t.places())
    shares = {
        "t2v_r1_chance": np.array([len(right) / len(videos) for right in pairs.videos_of]),
        "v2t_r1_chance": np.array([len(right) / len(texts) for right in pairs.texts_of]),
        "t2v_tied": t2v.wrong > 0,
        "v2t_tied": v2t.wrong > 0,
    }
    return metrics | {name: round(100 * float(np.mean(share)), 2) for name, share in shares.items()}


def pair(captions: Sequence[Sequence[str]], same_text: bool) -> Pairs:
    """Cleans the captions of each video. same_text: those that read the same are one text."""
    places: dict[tuple[Any, ...], int] = {}
    texts_of = []
    for video, some in enumerate(captions):
        keys = [(clean_caption(text), *(() if same_text else (video, n))) for n, text in enumerate(some)]
        texts_of.append(tuple(dict.fromkeys(places.setdefault(key, len(places)) for key in keys)))
    videos_of: list[list[int]] = [[] for _ in places]
    for video, texts in enumerate(texts_of):
        for text in texts:
            videos_of[text].append(video)
    return Pairs(tuple(key[0] for key in places), tuple(map(tuple, videos_of)), tuple(texts_of))


def merge_media(items: Iterable[Item | UnscoredClip]) -> Iterator[Item | UnscoredClip]:
    """Rows of the same part of the same file become one item with all their captions."""
    merged: dict[object, Item | UnscoredClip] = {}
    for item in items:
        key = item if isinstance(item, UnscoredClip) else (item.media, item.start, item.end)
        first = merged.get(key)
        if isinstance(item, Item) and isinstance(first, Item):
            merged[key] = replace(first, captions=first.captions + item.captions)
        else:
            merged[key] = item
    return iter(merged.values())


def with_options(data: EvalData, protocol: Protocol) -> EvalData:
    """The same data, and what its reader has to be told for the protocol."""
    wanted = protocol.source_options(data.kind)
    if not wanted or is_corpus(data.path):
        return data
    kind = "captions" if data.kind == "auto" else data.kind
    return replace(data, kind=kind, options=wanted | dict(data.options))


class _Captioned:
    """The items that have captions, each with those that count; `without` counts the others."""

    def __init__(self, items: Iterable[Item | UnscoredClip], paragraph: bool):
        self._items = items
        self._paragraph = paragraph
        self.without = 0

    def __iter__(self) -> Iterator[Item | UnscoredClip]:
        for item in self._items:
            if isinstance(item, Item) and not item.captions:
                self.without += 1
            elif isinstance(item, Item) and self._paragraph:
                yield replace(item, captions=(join_paragraph(item.captions),))
            else:
                yield item


def _stated(options: RetrievalOptions, protocol: Protocol, stored: bool) -> dict[str, Any]:
    scoring = options.scoring
    right = "all videos with a caption that reads the same" if protocol.same_text else "its own row's video"
    if not stored:
        right += "; rows of one file are one video"
    spans = "the first 30 s" if protocol.trimmed and not stored else "whole"
    dsl = f"softmax of {scoring.dsl_scale:g} * score over all queries of the test" if scoring.dsl else False
    return {
        "protocol": f"{options.protocol}: {protocol.about}",
        "the originals use": {"frames": protocol.frames, "text length": protocol.text_length},
        "clips are taken": spans,
        "captions are": "joined to a paragraph" if protocol.paragraph else "queries one by one",
        "right for a caption": right,
        "aggregation of clips": scoring.aggregate,
        "dual softmax": dsl,
        "ties": options.ties,
    }
