"""An order of clips that goes through its corpus a few shards at a time."""

import bisect
import functools
import itertools
import sys
from typing import NamedTuple

import numpy as np

from ivjax.data_pipelines.fields.field import generator
from ivjax.data_pipelines.store.numbering import Concatenation


class _Epoch(NamedTuple):
    """Groups of shards, and the place at which each group begins; the last entry is where the epoch ends."""

    groups: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]


class ShardGroups:
    """Clip numbers without end, each once an epoch: those of a few shards, shuffled, then those of the next.

    Each epoch draws anew which shards come together, in which order the groups come, and the order of the
    clips in them. A pure function of the seed and the place. Thread-safe.

    Args:
        numbering: the clips of the corpus, by shard.
        first: what is added to their numbers.
        size: shards of a group; the last group of an epoch may have fewer.
        seed: what all draws follow from.
    """

    def __init__(self, numbering: Concatenation, first: int, size: int, seed: int):
        self._numbering, self._first, self._size, self._seed = numbering, first, size, seed
        # Readers are in one group or two, and who looks ahead is in the next ones.
        self._epoch = functools.lru_cache(2)(self._draw_epoch)
        self._group = functools.lru_cache(4)(self._draw_group)

    def __len__(self) -> int:
        # len() must fit into a C ssize_t, and the order has no end.
        return sys.maxsize

    def __getitem__(self, place: int) -> int:
        number, within = divmod(place, len(self._numbering))
        starts = self._epoch(number).starts
        # bisect_right, because a group without clips starts where the next one does.
        group = bisect.bisect_right(starts, within) - 1
        return int(self._group(number, group)[within - starts[group]])

    def _draw_epoch(self, number: int) -> _Epoch:
        shards = generator(self._seed, number, "shards").permutation(self._numbering.groups).tolist()
        groups = tuple(tuple(shards[n : n + self._size]) for n in range(0, len(shards), self._size))
        counts = (sum(len(self._numbering.range(shard)) for shard in group) for group in groups)
        return _Epoch(groups, (0, *itertools.accumulate(counts)))

    def _draw_group(self, number: int, group: int) -> np.ndarray:
        shards = self._epoch(number).groups[group]
        clips = np.concatenate([np.asarray(self._numbering.range(shard), np.int64) for shard in shards])
        return generator(self._seed, number, f"group {group}").permutation(clips) + self._first
