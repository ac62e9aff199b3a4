"""Diversity sampling: draws clips so that every video is equally likely, whatever its number of clips."""

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np

from ivjax.errors import UserError

Item = TypeVar("Item")

_ID_LENGTH = 11  # of a YouTube id, with which a clip's file name begins


def original_draw(names: Sequence[str], count: int, seed: int = 42) -> list[int]:
    """Returns the indices of `count` clips in the order of InternVid's draw, bit for bit.

    `names` are paths or names that begin with the 11-character id of their video.
    """
    _check(count, len(names))
    videos = [name.rpartition("/")[2][:_ID_LENGTH] for name in names]
    counts = Counter(videos)
    weights = np.array([1.0 / counts[video] for video in videos])
    # Only numpy's legacy generator draws what the original drew.
    chosen = np.random.RandomState(seed).choice(
        len(names), size=count, replace=False, p=weights / weights.sum()
    )
    return [int(index) for index in chosen]


class StreamingDraw(Generic[Item]):
    """Draws `count` of any number of items, with the distribution of `original_draw` but not its clips.

    The random number of an item depends on the seed and its id alone, so the order of offers does not
    matter. Memory grows with `count` only.
    """

    def __init__(self, count: int, seed: int = 42):
        _check(count, None)
        self._count = count
        self._seed = seed
        self._kept: list[tuple[float, str, Item]] = []

    def offer(self, id: str, weight: float, item: Item) -> None:
        """Considers an item; `weight` is its chance to be drawn first. Ids must differ."""
        # Exponential keys (Efraimidis, Spirakis): the `count` largest log(u) / weight are a weighted draw
        # without replacement, and need neither the total weight nor the other items.
        entry = (math.log(self._uniform(id)) / weight, id, item)
        if len(self._kept) < self._count:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)

    def drawn(self) -> list[Item]:
        """Returns the drawn items in order."""
        return [item for _, _, item in sorted(self._kept, key=lambda entry: entry[:2], reverse=True)]

    def _uniform(self, id: str) -> float:
        """Returns a pseudo-random number in (0, 1) that depends on the seed and the id."""
        # Not Python's hash, which differs from process to process.
        digest = hashlib.blake2b(id.encode(), digest_size=8, key=str(self._seed).encode()).digest()
        # The half keeps 0 out, whose logarithm is infinite.
        return (int.from_bytes(digest, "little") + 0.5) / 2**64


def streaming_draw(rows: Iterable[tuple[str, str]], count: int, seed: int = 42) -> list[int]:
    """Returns indices of (clip id, video id) rows in the order of a draw by exponential keys.

    `rows` is read twice, first to count the clips of each video; only the counts and the draw are kept.
    """
    if isinstance(rows, Iterator):
        raise TypeError("rows are read twice; give something that can be iterated again")
    counts = Counter(video for _, video in rows)
    _check(count, counts.total())
    draw: StreamingDraw[int] = StreamingDraw(count, seed)
    for index, (id, video) in enumerate(rows):
        draw.offer(id, 1.0 / counts[video], index)
    return draw.drawn()


def _check(count: int, available: int | None) -> None:
    if count < 1 or (available is not None and count > available):
        most = "" if available is None else f" and at most {available}"
        raise UserError(f"cannot draw {count} clips; ask for at least 1{most}")
