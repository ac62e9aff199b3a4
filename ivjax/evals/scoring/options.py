"""Scores of texts that belong to one clip each: options, or answers to questions."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ivjax.evals.judging import PairJudge
from ivjax.evals.scoring.similarity import similarity, unit_mean
from ivjax.evals.suites.suite import Aggregate, PairSuite
from ivjax.evals.vectors import embed_texts

_TEXTS = 4096  # different ones whose states are in memory at once

# The number of a clip, and the texts that are compared beside it, cleaned.
ClipTexts = tuple[int, Sequence[str]]


def option_scores(
    encoder: Any, suite: PairSuite, vectors: np.ndarray, tokens: np.ndarray | None, asked: Sequence[ClipTexts]
) -> Iterator[np.ndarray]:
    """Yields the scores (texts,) of the texts beside each clip: cosines, or logits of a match.

    vectors (n, clips, D) are those of the clips, tokens (n, N, C) what a judge looks at, if there is one.
    """
    for block in _blocks(asked):
        # Clips may share hundreds of texts: each is read once.
        places = {text: place for place, text in enumerate(_different(block))}
        numbers = [np.array([places[text] for text in texts]) for _, texts in block]
        if tokens is None:
            read = embed_texts(encoder, list(places))
            for (clip, _), some in zip(block, numbers, strict=True):
                yield option_cosines(vectors[clip], read[some], suite.aggregate)
        else:
            judge = PairJudge(encoder, list(places), tokens)
            clips = [np.full(len(some), clip) for (clip, _), some in zip(block, numbers, strict=True)]
            logits = judge(np.concatenate(numbers), np.concatenate(clips))
            yield from np.split(logits, np.cumsum([len(some) for some in numbers])[:-1])


def option_cosines(video: np.ndarray, options: np.ndarray, aggregate: Aggregate = "embedding") -> np.ndarray:
    """Returns the cosines (options,) of options (options, D) with one video ([clips,] D)."""
    clips = video.reshape(1, -1, video.shape[-1])
    if aggregate == "embedding":
        return similarity(unit_mean(clips), options)[0]
    return similarity(clips, options, aggregate)[0]


def _different(asked: Sequence[ClipTexts]) -> dict[str, None]:
    return dict.fromkeys(text for _, texts in asked for text in texts)


def _blocks(asked: Sequence[ClipTexts]) -> Iterator[Sequence[ClipTexts]]:
    """Cuts what is asked where there would be too many different texts."""
    start, known = 0, set[str]()
    for number, (_, texts) in enumerate(asked):
        if number > start and len(known | set(texts)) > _TEXTS:
            yield asked[start:number]
            start, known = number, set()
        known |= set(texts)
    if asked:
        yield asked[start:]
