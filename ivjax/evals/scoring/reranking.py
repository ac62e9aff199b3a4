"""Reranks the best candidates of each query by a model that reads a text beside a clip."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

# Of candidates that are not among the best: far below all logits, as in the originals.
UNJUDGED = -100.0

# Numbers of texts (p,) and of clips (p,) -> how well each text belongs to its clip (p,).
Judge = Callable[[np.ndarray, np.ndarray], np.ndarray]


def best_candidates(strips: Iterable[np.ndarray], most: int) -> np.ndarray:
    """Returns numbers (n, k) of the best `most` candidates of each query in strips of scores, best first."""
    # Stable: of equal scores the earlier candidate comes first, on every machine.
    return np.concatenate([np.argsort(-strip, axis=1, kind="stable")[:, :most] for strip in strips])


def judge_both_ways(
    best_clips: np.ndarray, best_texts: np.ndarray, judge: Judge
) -> tuple[np.ndarray, np.ndarray]:
    """Returns judged scores of the best clips of each text (n, k) and the best texts of each clip (m, l)."""
    texts, clips = len(best_clips), len(best_texts)
    of_texts = np.arange(texts)[:, None] * clips + best_clips
    of_clips = best_texts * clips + np.arange(clips)[:, None]
    # Pairs that are among the best both ways are judged once.
    pairs, places = np.unique(np.concatenate([of_texts.ravel(), of_clips.ravel()]), return_inverse=True)
    scores = judge(pairs // clips, pairs % clips)[places]
    return scores[: of_texts.size].reshape(of_texts.shape), scores[of_texts.size :].reshape(of_clips.shape)


def reranked(
    strips: Iterable[np.ndarray], best: np.ndarray, judged: np.ndarray, weight: float = 0.0
) -> Iterator[np.ndarray]:
    """Yields strips of scores (b, candidates) float64 in which the best candidates have judged scores.

    `weight` times their first scores is added to those. The others come behind them, in the order that they
    have without a judge.
    """
    start = 0
    for strip in strips:
        rows = slice(start, start + len(strip))
        # In float64: beside -100 float32 would make close scores equal.
        found = UNJUDGED + strip.astype(np.float64)
        scores = judged[rows] + weight * np.take_along_axis(strip, best[rows], axis=1).astype(np.float64)
        np.put_along_axis(found, best[rows], scores, axis=1)
        yield found
        start += len(strip)
