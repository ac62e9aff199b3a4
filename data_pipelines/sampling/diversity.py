"""Diversity sampling: clips drawn so that every video has the same chance, however many clips it has."""

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
    """Indices of `count` of the clips in the order of InternVid's draw, bit for bit.

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
    """Keeps `count` of any number of items: the same distribution as `original_draw`, not the same clips.

    An item's luck depends on the seed and its id alone, so the order of offers does not matter, and
    draws over parts of the items can be merged. Memory grows with `count` only.
    """

    def __init__(self, count: int, seed: int = 42):
        _check(count, None)
        self._count = count
        self._seed = seed
        self._kept: list[tuple[float, str, Item]] = []

    def offer(self, id: str, weight: float, item: Item) -> None:
        """Considers an item; its chance to be first is proportional to `weight`. Ids must differ."""
        self._push((math.log(self._uniform(id)) / weight, id, item))

    def merge(self, other: "StreamingDraw[Item]") -> None:
        """Takes over what a draw over other items, of the same seed, has kept."""
        for entry in other._kept:
            self._push(entry)

    def drawn(self) -> list[Item]:
        """The items in the order of the draw."""
        return [item for _, _, item in sorted(self._kept, key=lambda entry: entry[:2], reverse=True)]

    def _push(self, entry: tuple[float, str, Item]) -> None:
        if len(self._kept) < self._count:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)

    def _uniform(self, id: str) -> float:
        """A number in (0, 1) that looks random and follows from the seed and the id."""
        digest = hashlib.blake2b(id.encode(), digest_size=8, key=str(self._seed).encode()).digest()
        return (int.from_bytes(digest, "little") + 0.5) / 2**64


def streaming_draw(rows: Iterable[tuple[str, str]], count: int, seed: int = 42) -> list[int]:
    """Indices of (clip id, video id) rows by exponential keys, in the order of the draw.

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
        raise UserError(f"a draw of {count} clips cannot be; ask for at least 1{most}")
