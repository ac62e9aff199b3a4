"""Examples -> this host's rows of each global batch, in an order that is a function of (seed, step)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grain
import numpy as np

from ivjax.errors import UserError

_WORKER_THREADS = 2


class Examples(Protocol):
    """Random access to examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class HostShard:
    """Which share of every global batch this host feeds: share `index` of `count` equal ones."""

    index: int = 0
    count: int = 1


class Loader(Iterator[dict[str, np.ndarray]]):
    """Endless iterator over this host's rows of the global batches, resumable on any number of hosts.

    Every epoch is shuffled anew from `seed`. Each row carries its global place as `index`; the rows
    of global batch n are the places n * batch ... (n + 1) * batch - 1, whatever the host count.
    """

    def __init__(self, examples: Examples, batch: int, seed: int, host: HostShard):
        if len(examples) == 0:
            raise UserError("the data source holds no clips; check its path or its filters")
        if batch % host.count:
            raise UserError(f"batch={batch} does not divide among {host.count} hosts")
        dataset = grain.MapDataset.source(examples).seed(seed % 2**32).shuffle().repeat()
        self._iterator = grain.experimental.ElasticIterator(
            dataset.map_with_index(_numbered),
            batch,
            grain.sharding.ShardOptions(host.index, host.count),
            read_options=grain.ReadOptions(
                num_threads=_WORKER_THREADS, prefetch_buffer_size=2 * batch // host.count
            ),
        )

    def __next__(self) -> dict[str, np.ndarray]:
        return next(self._iterator)

    def state(self) -> Mapping[str, Any]:
        """What restores this position on any number of hosts; JSON."""
        return self._iterator.get_state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a `state`."""
        self._iterator.set_state(dict(state))

    def close(self) -> None:
        """Stops the reader threads."""
        self._iterator.close()


def _numbered(index: int, example: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"index": np.asarray(index % 2**32, np.uint32), **example}
