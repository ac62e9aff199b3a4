"""Scores retrieval: text to video and video to text."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ivjax.data_pipelines.store.clips import is_corpus
from ivjax.data_pipelines.tokenizers.caption_text import captions_of_kind, clean_caption, join_paragraph
from ivjax.errors import UserError
from ivjax.evals.encoding import PairEncoder
from ivjax.evals.items import EvalData, Item, UnscoredClip, open_items
from ivjax.evals.judging import PairJudge, embed_for
from ivjax.evals.result import Result, facts_of
from ivjax.evals.scoring.rank_metrics import Ranks, find_ranks, retrieval_metrics
from ivjax.evals.scoring.reranking import Judge, best_candidates, judge_both_ways, reranked
from ivjax.evals.scoring.similarity import strips
from ivjax.evals.suites.protocols import ScoringProtocol, protocol_named
from ivjax.evals.suites.retrieval import LETTERS, Retrieval, TiePlaces
from ivjax.evals.vectors import Setting, embed_texts
from ivjax.models.sizes import Compared


@dataclass(frozen=True)
class Pairs:
    """Texts, and which of them belong to which videos.

    Attributes:
        texts: as the model reads them.
        videos_of: numbers of the videos of each text.
        texts_of: numbers of the texts of each video.
    """

    texts: tuple[str, ...]
    videos_of: tuple[tuple[int, ...], ...]
    texts_of: tuple[tuple[int, ...], ...]


def score(setting: Setting[PairEncoder], suite: Retrieval = Retrieval()) -> Result:
    """Returns the recalls and ranks of all captions of a test set against all its videos, both ways."""
    protocol = protocol_named(suite.protocol, "ranking")
    stored = is_corpus(setting.data.path)
    listed = open_items(with_options(setting.data, protocol))
    # A record of a corpus is one video with all its captions already.
    items = listed if stored else list(merge_media(listed))
    captioned = _Captioned(items, suite.captions, protocol.paragraph)
    encoder: Any = setting.encoder
    embedded, tokens = embed_for(setting, suite, captioned, len(items))
    if not embedded.items:
        kind = f" of {suite.captions}" if suite.captions else ""
        raise UserError(f"no clip of {setting.data.path} has a caption{kind}; retrieval needs captions")
    pairs = pair_captions([item.captions for item in embedded.items], protocol.same_text)
    texts = embed_texts(encoder, pairs.texts)
    metrics = ranking_metrics(texts, embedded.vectors, pairs, suite)
    if tokens is not None:
        judge = PairJudge(encoder, pairs.texts, tokens, odds=suite.adds_cosine)
        # Only the order counts, so the cosine is divided where the odds would be multiplied.
        weight = 1 / (encoder.temperature * suite.match_weight) if suite.adds_cosine else 0.0
        metrics |= reranked_metrics(texts, embedded.vectors, pairs, suite, judge, weight)
    metrics = named_sides(metrics, suite.medium)
    facts = facts_of(setting, len(embedded.items), silent=embedded.silent) | {
        "captions": len(pairs.texts),
        "clips without captions": captioned.without,
        **_stated(suite, protocol, stored),
    }
    return Result(suite.name, facts, metrics, embedded.unscored)


def ranking_metrics(
    texts: np.ndarray, videos: np.ndarray, pairs: Pairs, suite: Retrieval = Retrieval()
) -> dict[str, float]:
    """Returns metrics of vectors of texts (m, D) and videos (n, [clips,] D); never holds all m x n scores.

    `r1_chance` is what random scores would reach, `tied` the share of queries with an equal wrong answer.
    """
    t2v = find_ranks(strips(texts, videos, suite.scoring), pairs.videos_of)
    v2t = find_ranks(strips(videos, texts, suite.scoring), pairs.texts_of)
    metrics = _of_both_sides(t2v, v2t, suite.ties)
    shares = {
        "t2v_r1_chance": np.array([len(right) / len(videos) for right in pairs.videos_of]),
        "v2t_r1_chance": np.array([len(right) / len(texts) for right in pairs.texts_of]),
        "t2v_tied": t2v.wrong > 0,
        "v2t_tied": v2t.wrong > 0,
    }
    return metrics | {name: round(100 * float(np.mean(share)), 2) for name, share in shares.items()}


def reranked_metrics(
    texts: np.ndarray,
    videos: np.ndarray,
    pairs: Pairs,
    suite: Retrieval,
    judge: Judge,
    weight: float = 0.0,
) -> dict[str, float]:
    """Returns metrics of the order in which a judge has put the best `suite.rerank` candidates of each query.

    Vectors are those of `ranking_metrics`; the judge is asked about numbers of texts and of videos. `weight`
    times the cosine is added to what it says.
    """

    def scores(queries: np.ndarray, candidates: np.ndarray) -> Iterator[np.ndarray]:
        return strips(queries, candidates, suite.scoring)

    best_videos = best_candidates(scores(texts, videos), suite.rerank)
    best_texts = best_candidates(scores(videos, texts), suite.rerank)
    of_texts, of_videos = judge_both_ways(best_videos, best_texts, judge)
    t2v = find_ranks(reranked(scores(texts, videos), best_videos, of_texts, weight), pairs.videos_of)
    v2t = find_ranks(reranked(scores(videos, texts), best_texts, of_videos, weight), pairs.texts_of)
    found = _of_both_sides(t2v, v2t, suite.ties)
    return {re.sub("^(t2v_|v2t_)?", r"\1rerank_", name): value for name, value in found.items()}


def named_sides(metrics: Mapping[str, float], medium: Compared) -> dict[str, float]:
    """Returns metrics whose sides are named after the medium: `t2a_r1` of text to audio, not `t2v_r1`."""
    letters = LETTERS[medium]
    sides = {"t2v": f"t2{letters}", "v2t": f"{letters}2t"}
    split = ((name.partition("_"), value) for name, value in metrics.items())
    return {sides.get(side, side) + bar + rest: value for (side, bar, rest), value in split}


def _of_both_sides(t2v: Ranks, v2t: Ranks, ties: TiePlaces) -> dict[str, float]:
    if ties == "originals":
        # InternVideo1 counts strictly greater scores one way and takes the middle of a sort the other way.
        return retrieval_metrics(t2v.places("first"), v2t.places("middle"))
    return retrieval_metrics(t2v.places(), v2t.places())


def pair_captions(captions: Sequence[Sequence[str]], same_text: bool) -> Pairs:
    """Returns the cleaned captions of all videos; with `same_text` those that read the same are one text."""
    places: dict[tuple[Any, ...], int] = {}
    texts_of = []
    for video, some in enumerate(captions):
        keys = [(clean_caption(text), *(() if same_text else (video, n))) for n, text in enumerate(some)]
        # A video may say the same twice; a set would lose the order, on which the printed result depends.
        texts_of.append(tuple(dict.fromkeys(places.setdefault(key, len(places)) for key in keys)))
    videos_of: list[list[int]] = [[] for _ in places]
    for video, texts in enumerate(texts_of):
        for text in texts:
            videos_of[text].append(video)
    return Pairs(tuple(key[0] for key in places), tuple(map(tuple, videos_of)), tuple(texts_of))


def merge_media(items: Iterable[Item | UnscoredClip]) -> Iterator[Item | UnscoredClip]:
    """Returns the items, those of the same part of the same file joined to one with all their captions."""
    # MSR-VTT's and MSVD's files list a video once for each caption; it must be embedded and ranked once.
    merged: dict[object, Item | UnscoredClip] = {}
    for item in items:
        key = item if isinstance(item, UnscoredClip) else (item.media, item.start, item.end)
        first = merged.get(key)
        if isinstance(item, Item) and isinstance(first, Item):
            texts = {
                kind: first.texts.get(kind, ()) + item.texts.get(kind, ())
                for kind in (*first.texts, *item.texts)
            }
            merged[key] = replace(first, captions=first.captions + item.captions, texts=texts)
        else:
            merged[key] = item
    return iter(merged.values())


def with_options(data: EvalData, protocol: ScoringProtocol) -> EvalData:
    """Returns the test set with the options that its reader needs for a protocol."""
    wanted = protocol.source_options(data.kind)
    if not wanted or is_corpus(data.path):
        return data
    kind = "captions" if data.kind == "auto" else data.kind
    return replace(data, kind=kind, options=wanted | dict(data.options))


class _Captioned:
    """Yields the items that have captions, each with those that count; `without` counts the others.

    Captions of a `kind` count, or the items' own.
    """

    def __init__(self, items: Iterable[Item | UnscoredClip], kind: str | None, paragraph: bool):
        self._items = items
        self._kind = kind
        self._paragraph = paragraph
        self.without = 0

    def __iter__(self) -> Iterator[Item | UnscoredClip]:
        for item in self._items:
            if isinstance(item, Item) and self._kind:
                item = replace(item, captions=captions_of_kind(self._kind, item.captions, item.texts))
            if isinstance(item, Item) and not item.captions:
                self.without += 1
            elif isinstance(item, Item) and self._paragraph:
                yield replace(item, captions=(join_paragraph(item.captions),))
            else:
                yield item


def _stated(suite: Retrieval, protocol: ScoringProtocol, stored: bool) -> dict[str, Any]:
    scoring = suite.scoring
    right = "all videos with a caption that reads the same" if protocol.same_text else "its own row's video"
    if not stored:
        right += "; rows of one file are one video"
    spans = "the first 30 s" if protocol.trimmed and not stored else "whole"
    dsl = f"softmax of {scoring.dsl_scale:g} * score over all queries of the test" if scoring.dsl else False
    by = "the logit of a match"
    if suite.adds_cosine:
        times = "" if suite.match_weight == 1 else f"{suite.match_weight:g} * "
        by = f"{times}the logarithm of the odds of a match + cosine / the model's temperature"
    order = f"the {suite.rerank} best of each query, by {by}"
    return {
        "protocol": f"{suite.protocol}: {protocol.about}",
        "the originals use": {"frames": protocol.frames, "text length": protocol.text_length},
        "clips are taken": spans,
        "captions of": suite.captions or "the clips themselves",
        "captions are": "joined to a paragraph" if protocol.paragraph else "queries one by one",
        "right for a caption": right,
        "aggregation of clips": scoring.aggregate,
        "dual softmax": dsl,
        "ties": suite.ties,
        "reranked": order if suite.rerank else False,
    }
