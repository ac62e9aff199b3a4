"""The processes of a job that test one model: each reads its share of the clips, all of them score."""

import itertools
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ivjax.errors import UserError
from ivjax.train.feed import host_shard

T = TypeVar("T")


@dataclass(frozen=True)
class Hosts:
    """This process's share of the clips of a test: every `count`th one, from number `index`.

    Processes whose devices hold the same rows of a batch have the same share, and read the same clips.
    All processes must call `gather`, and use up `in_step`, at the same places of the program.
    """

    index: int = 0
    count: int = 1

    def share(self, items: Iterable[T]) -> Iterator[T]:
        """Yields the items of this process; all are drawn, so that whoever counts them counts all."""
        # Strided and not in blocks: neighbours in a list come from one video or folder, and cost alike.
        return itertools.islice(items, self.index, None, self.count)

    def gather(self, value: T) -> list[T]:
        """Returns the values of all shares, in their order, in every process."""
        if self.count == 1:
            return [value]
        # Arrays of one size are all that a collective can carry, so objects travel as padded bytes.
        data = np.frombuffer(pickle.dumps((self.index, value)), np.uint8)
        lengths = np.asarray(multihost_utils.process_allgather(np.array(len(data)))).reshape(-1)
        padded = np.pad(data, (0, int(lengths.max()) - len(data)))
        rows = np.asarray(multihost_utils.process_allgather(padded))
        # Processes of one share send the same; any of them will do.
        found = dict(pickle.loads(row[:size].tobytes()) for row, size in zip(rows, lengths, strict=True))
        return [found[index] for index in range(self.count)]

    def in_step(self, batches: Iterator[list[T]]) -> Iterator[list[T]]:
        """Yields this process's batches, then empty ones until no process has any.

        A model that lies on the devices of all processes computes only while all of them call it. If drawing
        a batch fails in one process, the others raise a UserError instead of waiting for it.
        """
        while True:
            batch, failure = _next(batches)
            states = self.gather((bool(batch), failure is None))
            if failure is not None:
                raise failure
            if not all(fine for _, fine in states):
                raise UserError("another process of this job failed at its clips; its output says why")
            if not any(more for more, _ in states):
                return
            yield batch


def hosts_of(mesh: Mesh, batch: int) -> Hosts:
    """Returns the share of this process where a batch of so many rows is split over a mesh."""
    shard = host_shard(mesh, batch)
    return Hosts(shard.index, shard.count)


def _next(batches: Iterator[list[T]]) -> tuple[list[T], Any]:
    try:
        return next(batches, []), None
    except Exception as error:  # whatever it is, the other processes must hear of it first
        return [], error
