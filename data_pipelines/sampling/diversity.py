"""Diversity sampling: draws clips so that every video is equally likely, whatever its number of clips."""

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ivjax.errors import UserError

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


def streaming_draw(rows: Iterable[tuple[str, str]], count: int, seed: int = 42) -> list[int]:
    """Returns the indices of `count` of any number of (clip id, video id) rows, in the order of the draw.

    The distribution is that of `original_draw`, the clips are not. The random number of a clip depends on the
    seed and its id alone, so the order of the rows does not matter. `rows` is read twice, first to count the
    clips of each video; only the counts and the draw are kept.
    """
    if isinstance(rows, Iterator):
        raise TypeError("rows are read twice; give something that can be iterated again")
    counts = Counter(video for _, video in rows)
    _check(count, counts.total())
    # Exponential keys (Efraimidis, Spirakis): the `count` largest log(u) / weight are a weighted draw without
    # replacement, and need neither the total weight nor the other rows.
    keys = (
        (math.log(_uniform(id, seed)) / (1.0 / counts[video]), id, index)
        for index, (id, video) in enumerate(rows)
    )
    return [index for _, _, index in heapq.nlargest(count, keys)]


def _uniform(id: str, seed: int) -> float:
    """Returns a pseudo-random number in (0, 1) that depends on the seed and the id."""
    # Not Python's hash, which differs from process to process.
    digest = hashlib.blake2b(id.encode(), digest_size=8, key=str(seed).encode()).digest()
    # The half keeps 0 out, whose logarithm is infinite.
    return (int.from_bytes(digest, "little") + 0.5) / 2**64


def _check(count: int, available: int) -> None:
    if not 1 <= count <= available:
        raise UserError(f"cannot draw {count} clips; ask for at least 1 and at most {available}")
