"""The engine for one machine: a pool of processes that fills two shards at a time."""

import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from ivjax.data_pipelines.build.clip_recipe import ClipRecipe, Outcome
from ivjax.data_pipelines.build.guard import GuardedMaker
from ivjax.data_pipelines.build.shard_jobs import BuildSettings, ShardJob, build_shard
from ivjax.data_pipelines.sources.row import SourceRow

_SHARDS_AT_ONCE = 2  # so that no process waits for the last rows of a shard


def run_pool(
    jobs: Sequence[ShardJob], work: BuildSettings, workers: int, tick: Callable[[int], None]
) -> None:
    """Builds all shards; calls `tick(1)` after every row."""
    with (
        Makers(work.recipe, work.row_seconds, workers) as makers,
        ThreadPoolExecutor(_SHARDS_AT_ONCE) as shards,
    ):

        def run_rows(rows: Sequence[SourceRow]) -> Iterator[Outcome]:
            for outcome in makers.run(rows):
                yield outcome
                tick(1)

        built = [shards.submit(build_shard, job, work, run_rows) for job in jobs]
        try:
            # The first error ends the build; waiting for all shards would hide it for hours.
            for shard in wait(built, return_when=FIRST_EXCEPTION).done:
                shard.result()
        except BaseException:
            shards.shutdown(wait=False, cancel_futures=True)
            makers.abandon()
            raise


class Makers:
    """`count` processes that make clips, each driven by a thread."""

    def __init__(self, recipe: ClipRecipe, row_seconds: float, count: int):
        self._count = count
        self._idle: queue.SimpleQueue[GuardedMaker] = queue.SimpleQueue()
        self._all = [GuardedMaker(recipe, row_seconds) for _ in range(count)]
        for maker in self._all:
            self._idle.put(maker)
        self._threads = ThreadPoolExecutor(count, "ivjax-build")

    def run(self, rows: Sequence[SourceRow]) -> Iterator[Outcome]:
        """Yields outcomes in the order of the rows; makes only a few ahead of the next one."""
        coming: deque[Future[Outcome]] = deque()
        for row in rows:
            coming.append(self._threads.submit(self._make, row))
            # Twice the processes: enough that none waits, and finished clips do not pile up in memory.
            if len(coming) > 2 * self._count:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()

    def _make(self, row: SourceRow) -> Outcome:
        maker = self._idle.get()
        try:
            return maker.make(row)
        finally:
            self._idle.put(maker)

    def abandon(self) -> None:
        """Ends the rows that are being made, and refuses later ones."""
        for maker in self._all:
            maker.abandon()

    def __enter__(self) -> "Makers":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for maker in self._all:
            maker.close()
