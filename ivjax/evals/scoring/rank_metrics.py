"""Ranks of the right answers, and the metrics that the originals make of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ivjax.errors import UserError

Place = Literal["expected", "middle", "first"]  # which of equal candidates counts


@dataclass(frozen=True)
class Ranks:
    """The standing of the best right answer of each of n queries.

    Attributes:
        above: (n,) float64, candidates that score more; infinitely many if no answer is right.
        wrong: (n,) float64, wrong candidates that score the same.
        right: (n,) float64, other right candidates that score the same.
    """

    above: np.ndarray
    wrong: np.ndarray
    right: np.ndarray

    def places(self, ties: Place = "expected") -> np.ndarray:
        """Returns places from 0, (n,) float64; `ties` says where the right answer is among equal candidates.

        expected: the mean place of the first right one over all their orders. middle: in the middle, whoever
        else is right (InternVideo1 from video to text). first: before all (InternVideo1 from text to video).
        """
        if ties == "expected":
            # Among w wrong and r + 1 right ones in random order, each wrong one is before all right ones with
            # probability 1 / (r + 2).
            return self.above + self.wrong / (self.right + 2)
        return self.above + ((self.wrong + self.right) / 2 if ties == "middle" else 0)


def find_ranks(strips: Iterable[np.ndarray], right: Sequence[Sequence[int]]) -> Ranks:
    """Returns the ranks in consecutive strips of scores (b, candidates); `right` has one list per query."""
    found: list[tuple[float, float, float]] = []
    for strip in strips:
        if not np.isfinite(strip).all():
            raise UserError("some scores are not finite numbers; the model or its weights are broken")
        found += [_rank(row, list(some)) for row, some in zip(strip, right[len(found) :], strict=False)]
    if len(found) != len(right):
        raise ValueError(f"scores of {len(found)} queries, right answers of {len(right)}")
    return Ranks(*np.array(found, np.float64).reshape(-1, 3).T)


def _rank(row: np.ndarray, right: list[int]) -> tuple[float, float, float]:
    if not right:
        return np.inf, 0, 0
    # Counting beats sorting: O(n), and ties are known exactly.
    best = row[right].max()
    alike = int(np.count_nonzero(row[right] == best))
    return int(np.count_nonzero(row > best)), int(np.count_nonzero(row == best)) - alike, alike - 1


def rank_metrics(places: np.ndarray) -> dict[str, float]:
    """Returns recalls in percent, their geometric mean over 1, 5 and 10, median and mean rank from 1."""
    found = {"r1": 100 * float(np.mean(places == 0))}  # a tie for the first place is no hit
    found |= {f"r{cut}": 100 * float(np.mean(places < cut)) for cut in (5, 10, 50)}
    found["r_geometric"] = float(np.cbrt(found["r1"] * found["r5"] * found["r10"]))
    # Places count from 0 here and from 1 in the papers.
    return found | {"medr": float(np.median(places)) + 1, "meanr": float(np.mean(places)) + 1}


def retrieval_metrics(t2v: np.ndarray, v2t: np.ndarray) -> dict[str, float]:
    """Returns the metrics of places of both directions, to two decimals as the originals report them.

    `r_mean` of a side is the mean of its recalls at 1, 5 and 10; the one without a side, of both sides'.
    """
    found: dict[str, float] = {}
    for side, places in (("t2v", t2v), ("v2t", v2t)):
        metrics = rank_metrics(places)
        metrics["r_mean"] = (metrics["r1"] + metrics["r5"] + metrics["r10"]) / 3
        found |= {f"{side}_{name}": value for name, value in metrics.items()}
    found["r_mean"] = (found["t2v_r_mean"] + found["v2t_r_mean"]) / 2
    return {name: round(value, 2) for name, value in found.items()}


def class_metrics(places: np.ndarray, classes: int) -> dict[str, float]:
    """Returns top-1 accuracy in percent; beyond five classes also top-5 and the mean of both."""
    top1, top5 = 100 * float(np.mean(places == 0)), 100 * float(np.mean(places < 5))
    # Of five classes or fewer, top-5 is always right.
    found = {"top1": top1} if classes <= 5 else {"top1": top1, "top5": top5, "mean": (top1 + top5) / 2}
    return {name: round(value, 2) for name, value in found.items()}


def choice_accuracy(scores: Sequence[np.ndarray], answers: Sequence[int]) -> float:
    """Returns the percentage of questions whose right option beats all others; one (options,) row each."""
    hits = [
        # A tie is no hit: a model that scores all options alike would otherwise answer everything.
        float(np.count_nonzero(row >= row[answer]) == 1)
        for row, answer in zip(scores, answers, strict=True)
    ]
    return 100 * float(np.mean(hits))


def average_precisions(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns the average precision of each class (C,): the mean precision at its right clips.

    Scores and `right` are (n, C). A class without a right clip has 0; equal scores keep the order of clips.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    hits = np.take_along_axis(right, order, axis=0).astype(bool)
    # As torchnet's meter, which the originals use: the precision at each right clip, and no interpolation.
    precision = np.cumsum(hits, axis=0) / np.arange(1, len(hits) + 1)[:, None]
    return (precision * hits).sum(0) / np.maximum(hits.sum(0), 1)
