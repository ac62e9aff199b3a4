"""An order of clips -> this host's rows of each global batch, made ahead of the step that wants them."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import grain
import numpy as np

from ivjax.data_pipelines.load.batch_rows import Row, fill_row
from ivjax.data_pipelines.load.broken_clips import BrokenClip, BrokenClipLog
from ivjax.errors import UserError

BATCHES_AHEAD = 2


@dataclass(frozen=True)
class HostShard:
    """Which share of every global batch this host feeds: share `index` of `count` equal ones."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class BatchRequest:
    """What a stage asks a data source for.

    Attributes:
        spec: shape and dtype of one row of each array.
        batch: rows of a global batch, over all hosts.
        seed: what the order of the clips and all draws follow from.
        host: this host's share of each global batch.
        broken_clips: the file that lists broken clips; None: no list.
    """

    spec: Mapping[str, Any]
    batch: int
    seed: int = 0
    host: HostShard = HostShard()
    broken_clips: Path | None = None


class RowFiller(Protocol):
    """Fills rows. Safe to call from `threads` threads at once."""

    @property
    def threads(self) -> int:
        """How many."""
        ...

    def fill(self, index: int, number: int, row: Row) -> Sequence[BrokenClip]:
        """Writes the example of clip `number` at global place `index` into `row`, array by array.

        Returns the broken clips that were replaced; raises only what ends the run.
        """
        ...

    def report(self) -> dict[str, float]:
        """How the work goes, for logs; empty where there is nothing to say."""
        ...

    def stop(self) -> None:
        """Gives up what is under way, so that no thread waits for it."""
        ...

    def close(self) -> None:
        """Frees files, when no thread fills rows any more."""
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

    `order` is an infinite MapDataset of clip numbers; place i of it, on whichever host, is row i of the
    run. Rows of global batch n are the places n * batch ... (n + 1) * batch - 1. `identity` names what
    the order depends on; a state can only be restored where it is the same. `finish` changes whole
    batches of this host's rows. `epoch` is how many rows pass until each clip has come.
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
    ):
        if len(order) == 0:
            raise UserError("the data source holds no clips; check its path or its filters")
        if request.batch % request.host.count:
            raise UserError(f"batch={request.batch} does not divide among {request.host.count} hosts")
        self._filler = filler
        self._request = request
        self.broken = broken
        self._identity = dict(identity or {})
        self._finish = finish
        self.epoch = len(order) if epoch is None else epoch
        self._threads = ThreadPoolExecutor(filler.threads, "ivjax-loader")
        self._places = grain.experimental.ElasticIterator(
            order.map_with_index(_placed),
            request.batch,
            grain.sharding.ShardOptions(request.host.index, request.host.count),
            read_options=grain.ReadOptions(num_threads=0, prefetch_buffer_size=0),
        )
        self._coming: deque[_Coming] = deque()
        self._state: Mapping[str, Any] = self._places.get_state()

    def __next__(self) -> dict[str, np.ndarray]:
        while len(self._coming) <= BATCHES_AHEAD:
            self._coming.append(self._begin())
        coming = self._coming.popleft()
        broken = [clip for filled in coming.filled for clip in filled.result()]
        if self.broken is not None:
            self.broken.add(len(coming.filled), broken)
        self._state = coming.state
        if self._finish is None:
            return coming.rows
        # A run may be resumed with another batch, so where a batch starts is no multiple of its size.
        start = int(coming.places[0]) - self._request.host.index
        return self._finish(coming.rows, start, coming.places - start)

    def report(self) -> dict[str, float]:
        """What the filler reports, and how many clips were broken, by cause; for logs."""
        causes = self.broken.causes if self.broken else {}
        return self._filler.report() | {f"broken/{cause}": count for cause, count in causes.items()}

    def state(self) -> Mapping[str, Any]:
        """What restores the position after the last batch, on any number of hosts; JSON."""
        return {**self._state, **({"identity": self._identity} if self._identity else {})}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a `state`."""
        was = state.get("identity", {})
        changed = [name for name, value in self._identity.items() if was.get(name, value) != value]
        if changed:
            raise UserError(
                f"corpus {', '.join(changed)} is not the one that this run has been reading, so its order "
                "cannot go on; put the old one back, or start a new run"
            )
        self._drop_coming()
        self._places.set_state({name: value for name, value in state.items() if name != "identity"})
        self._state = self._places.get_state()

    def close(self) -> None:
        """Ends threads, worker processes and files."""
        self._drop_coming()
        self._filler.stop()
        self._threads.shutdown(cancel_futures=True)
        self._places.close()
        self._filler.close()

    def _begin(self) -> _Coming:
        """Allocates the next batch and has its rows filled in the background."""
        places = next(self._places)
        count = len(places["index"])
        rows = {name: np.empty((count, *spec.shape), spec.dtype) for name, spec in self._request.spec.items()}
        views = ({name: array[row, ...] for name, array in rows.items()} for row in range(count))
        filled = [
            self._threads.submit(self._filler.fill, int(index), int(number), view)
            for index, number, view in zip(places["index"], places["number"], views, strict=True)
        ]
        return _Coming(rows, places["index"], filled, self._places.get_state())

    def _drop_coming(self) -> None:
        for coming in self._coming:
            for filled in coming.filled:
                filled.cancel()
        self._coming.clear()


def _placed(index: int, number: int) -> dict[str, int]:
    return {"index": index, "number": number}


class InMemory:
    """A RowFiller of examples that are computed by number, and cannot be broken."""

    threads = 2

    def __init__(self, example: Callable[[int], Mapping[str, np.ndarray]]):
        self._example = example

    def fill(self, index: int, number: int, row: Row) -> Sequence[BrokenClip]:
        """See RowFiller."""
        fill_row(row, self._example(number), index, number)
        return ()

    def report(self) -> dict[str, float]:
        """See RowFiller."""
        return {}

    def stop(self) -> None:
        """Nothing takes long."""

    def close(self) -> None:
        """Nothing to free."""
