"""Turns an order of clips into this host's rows of each global batch, ahead of the step that wants them."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import grain
import numpy as np

from ivjax.data_pipelines.load.batch_rows import BatchRow, fill_row
from ivjax.data_pipelines.load.broken_clips import BrokenClip, BrokenClipLog
from ivjax.errors import UserError

# One batch being handed over and one being filled keep all workers busy; more would only cost memory.
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class HostShard:
    """The share of every global batch that this host feeds: number `index` of `count` equal ones."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class BatchRequest:
    """The request of a stage to a data source.

    Attributes:
        spec: shape and dtype of one row of each array.
        batch: rows of a global batch, over all hosts.
        seed: what the order of the clips and all draws follow from.
        host: this host's share of each global batch.
        broken_clips: the file that lists broken clips; None: no list.
        path: where the source stands in the experiment, for messages.
    """

    spec: Mapping[str, Any]
    batch: int
    seed: int = 0
    host: HostShard = HostShard()
    broken_clips: Path | None = None
    path: str = "data"


class RowFiller(Protocol):
    """Fills rows of a batch with examples; `fill` may run in `threads` threads at once."""

    @property
    def threads(self) -> int:
        """The number of threads that may call `fill` at once."""
        ...

    def begin(self, place: int, stride: int) -> None:
        """Takes note that the next rows are those at a place and at every `stride`th from there on."""
        ...

    def passed(self, place: int) -> None:
        """Takes note that the rows before a place have been handed over."""
        ...

    def fill(self, index: int, number: int, row: BatchRow) -> Sequence[BrokenClip]:
        """Writes the example of clip `number` at global place `index` into `row`, array by array.

        Returns the broken clips that were replaced; raises only what ends the run.
        """
        ...

    def report(self) -> dict[str, float]:
        """Returns metrics of the clips so far; empty if there are none."""
        ...

    def stop(self) -> None:
        """Abandons examples that are being made, so that no thread waits for one that hangs."""
        ...

    def close(self) -> None:
        """Closes files; called when no thread is inside `fill`."""
        ...


# Changes a host's rows of a global batch: rows, first place of the batch, places of the rows in it.
Finish = Callable[[dict[str, np.ndarray], int, np.ndarray], dict[str, np.ndarray]]


class _Coming(NamedTuple):
    rows: dict[str, np.ndarray]
    places: np.ndarray
    filled: list[Future[Sequence[BrokenClip]]]
    state: Mapping[str, Any]


class Loader(Iterator[dict[str, np.ndarray]]):
    """Endless iterator over this host's rows of the global batches, resumable on any number of hosts.

    Global batch n holds the places n * batch ... (n + 1) * batch - 1 of the order, on whichever hosts.

    Args:
        order: endless MapDataset of clip numbers, one for each place.
        filler: makes the example of a clip.
        request: the arrays, the batch and this host's share of it.
        broken: counts clips that could not be used; None: no clip can be broken.
        identity: what the order depends on, by name; a state is only restored where it is the same.
        finish: changes this host's rows of a whole batch, for example mixes them.
        epoch: rows until each clip has come once; None: the length of the order.
        remarks: sentences for a person about what is read.
    """

    def __init__(
        self,
        order: grain.MapDataset,
        filler: RowFiller,
        request: BatchRequest,
        broken: BrokenClipLog | None = None,
        identity: Mapping[str, str] | None = None,
        finish: Finish | None = None,
        epoch: int | None = None,
        remarks: Sequence[str] = (),
    ):
        if len(order) == 0:
            raise UserError("the data source holds no clips; check its path or its filters")
        if request.batch % request.host.count:
            raise UserError(f"batch={request.batch} does not divide among {request.host.count} hosts")
        self.remarks = tuple(remarks)
        self._filler = filler
        self._request = request
        self.broken = broken
        self._identity = dict(identity or {})
        self._finish = finish
        self.epoch = len(order) if epoch is None else epoch
        # Threads mostly wait for decode processes, so Python's lock does not hold them up.
        self._threads = ThreadPoolExecutor(filler.threads, "ivjax-loader")
        # Grain only computes clip numbers here. No threads of its own: they would run ahead of the state.
        # Its maps must not make examples: an exception in one leaves the iterator a batch behind. The state
        # of an ElasticIterator is one number, equal on all hosts, and fits any number of them.
        self._places = grain.experimental.ElasticIterator(
            # The place in the order travels along: all random draws of a row follow from it.
            order.map_with_index(_placed),
            request.batch,
            grain.sharding.ShardOptions(request.host.index, request.host.count),
            read_options=grain.ReadOptions(num_threads=0, prefetch_buffer_size=0),
        )
        self._coming: deque[_Coming] = deque()
        self._begun = False
        self._state: Mapping[str, Any] = self._places.get_state()

    def __next__(self) -> dict[str, np.ndarray]:
        while len(self._coming) <= BATCHES_AHEAD:
            self._coming.append(self._begin())
        coming = self._coming.popleft()
        broken = [clip for filled in coming.filled for clip in filled.result()]
        self._filler.passed(int(coming.places[-1]) + 1)
        if self.broken is not None:
            self.broken.add(len(coming.filled), broken)
        # Batches ahead are not part of the state: after a resume they are made again.
        self._state = coming.state
        if self._finish is None:
            return coming.rows
        # A run may be resumed with another batch, so where a batch starts is no multiple of its size.
        start = int(coming.places[0]) - self._request.host.index
        return self._finish(coming.rows, start, coming.places - start)

    def report(self) -> dict[str, float]:
        """Returns metrics: those of the filler, and broken clips by cause."""
        causes = self.broken.causes if self.broken else {}
        return self._filler.report() | {f"broken/{cause}": count for cause, count in causes.items()}

    def state(self) -> Mapping[str, Any]:
        """Returns the position after the last batch, as JSON; it restores on any number of hosts."""
        return {**self._state, **({"identity": self._identity} if self._identity else {})}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues after the batch at which `state` was taken."""
        was = state.get("identity", {})
        changed = [name for name, value in self._identity.items() if was.get(name, value) != value]
        if changed:
            raise UserError(
                f"corpus {', '.join(changed)} is not the one that this run has been reading, or has another "
                "shuffle_shards, so its order cannot go on; put the old one back, or start a new run"
            )
        self._drop_coming()
        self._places.set_state({name: value for name, value in state.items() if name != "identity"})
        self._state = self._places.get_state()

    def close(self) -> None:
        """Ends threads, worker processes and files."""
        self._drop_coming()
        # Before the threads are joined: one of them may wait for a decoder that hangs.
        self._filler.stop()
        self._threads.shutdown(cancel_futures=True)
        self._places.close()
        self._filler.close()

    def _begin(self) -> _Coming:
        """Allocates the next batch and starts to fill its rows in the background."""
        places = next(self._places)
        count = len(places["index"])
        if not self._begun:
            self._begun = True
            self._filler.begin(int(places["index"][0]), self._request.host.count)
        # Not zeroed: each array of each row is written, or the run ends.
        rows = {name: np.empty((count, *spec.shape), spec.dtype) for name, spec in self._request.spec.items()}
        views = ({name: array[row, ...] for name, array in rows.items()} for row in range(count))
        filled = [
            # Row by row and not batch by batch, so that a slow clip holds up one worker only.
            self._threads.submit(self._filler.fill, int(index), int(number), view)
            for index, number, view in zip(places["index"], places["number"], views, strict=True)
        ]
        return _Coming(rows, places["index"], filled, self._places.get_state())

    def _drop_coming(self) -> None:
        for coming in self._coming:
            for filled in coming.filled:
                filled.cancel()
        self._coming.clear()
        self._begun = False


def _placed(index: int, number: int) -> dict[str, int]:
    return {"index": index, "number": number}


class InMemory:
    """A RowFiller whose examples are computed from their number and cannot be broken."""

    threads = 2

    def __init__(self, example: Callable[[int], Mapping[str, np.ndarray]]):
        self._example = example

    def begin(self, place: int, stride: int) -> None:
        """Does nothing: no row needs to be prepared."""

    def passed(self, place: int) -> None:
        """Does nothing: nothing is kept."""

    def fill(self, index: int, number: int, row: BatchRow) -> Sequence[BrokenClip]:
        """Writes the example of a clip; none is ever broken."""
        fill_row(row, self._example(number), index, number)
        return ()

    def report(self) -> dict[str, float]:
        """Returns no metrics."""
        return {}

    def stop(self) -> None:
        """Does nothing: no example takes long."""

    def close(self) -> None:
        """Does nothing: there is nothing to free."""
