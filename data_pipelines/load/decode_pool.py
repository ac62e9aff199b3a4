"""Fills rows with examples, in this process or in worker processes that may crash or hang."""

import contextlib
import mmap
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import IO, NamedTuple, Protocol

from ivjax.data_pipelines.child import LOST_CAUSES, Child, LostError, SteadyChild
from ivjax.data_pipelines.load.batch_rows import BatchRow, fill_row
from ivjax.data_pipelines.load.broken_clips import BrokenClip
from ivjax.data_pipelines.load.decode_worker import Answer, room, views
from ivjax.data_pipelines.load.examples import LeftOut, Maker
from ivjax.data_pipelines.load.shards_ahead import ShardsAhead
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.frame_cache import CacheCounts, FrameCache, cache_file
from ivjax.data_pipelines.video.shared_memory import memory_file
from ivjax.errors import UserError

_TIMES = 256  # clips whose decode time the log averages
_ATTEMPTS = 32  # broken replacements in a row after which the corpus itself must be at fault


class Ran(NamedTuple):
    """The seconds that making an example took, and what was left out of it."""

    seconds: float
    left_out: tuple[LeftOut, ...] = ()


class _Runner(Protocol):
    """Writes one example into a row; raises ClipError."""

    threads: int

    def run(self, index: int, number: int, row: BatchRow) -> Ran: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class ClipFiller:
    """A loader's RowFiller over clips: broken ones are replaced, the same way on every host and restart.

    Args:
        maker: makes the examples.
        workers: processes; 0: threads of this process.
        seconds: a clip that takes longer is broken.
        cache_gib: memory for decoded clips; 0: none.
        path: where the mixture stands in the experiment, for messages.
        shards: has shards in buckets copied to this machine; None: there are none.
    """

    def __init__(
        self,
        maker: Maker,
        workers: int,
        seconds: float,
        cache_gib: float = 0.0,
        path: str = "data",
        shards: ShardsAhead | None = None,
    ):
        self._maker = maker
        self._shards = shards
        self._cache_file = cache_file(cache_gib, maker.clips, path) if cache_gib else None
        self._cache = FrameCache(self._cache_file.fileno(), maker.clips) if self._cache_file else None
        self._runner: _Runner = self._start(workers, seconds)
        # A clip that cost a process or a time limit is not tried again in this run.
        self._costly: dict[int, ClipError] = {}
        self._times: deque[float] = deque(maxlen=_TIMES)
        self._reported = CacheCounts(0, 0, 0, 0)
        self._remarks: Counter[str] = Counter()
        # Several threads fill rows, and adding to a number is no single operation.
        self._lock = threading.Lock()

    def _start(self, workers: int, seconds: float) -> "_Runner":
        if not workers:
            self._maker.cache = self._cache
            return InProcess(self._maker)
        return Processes(self._maker, workers, seconds, self._cache_file)

    @property
    def threads(self) -> int:
        """The number of threads that may call `fill` at once."""
        return self._runner.threads

    def begin(self, place: int, stride: int) -> None:
        """Takes note that the next rows are those at a place and at every `stride`th from there on."""
        if self._shards is not None:
            self._shards.begin(place, stride)

    def passed(self, place: int) -> None:
        """Takes note that the rows before a place have been handed over."""
        if self._shards is not None:
            self._shards.passed(place)

    def fill(self, index: int, number: int, row: BatchRow) -> Sequence[BrokenClip]:
        """Writes the example of a clip, or of one that replaces it; returns the broken clips."""
        broken: list[BrokenClip] = []
        candidate = number
        for attempt in range(_ATTEMPTS):
            # The originals too take another random clip after any error, but a different one on each run.
            tried = self._try(index, candidate, row)
            if isinstance(tried, Ran):
                if "replaced" in row:
                    row["replaced"][...] = attempt > 0
                with self._lock:
                    self._remarks.update(self._maker.remarks(candidate, row))
                return [*broken, *map(self._broken_part, tried.left_out)]
            broken.append(
                self._broken_part(LeftOut(*self._maker.locate(candidate), tried.cause, tried.detail))
            )
            # Of the clip whose turn it was, not of the last candidate: so it is the same after a restart.
            candidate = self._maker.replacement(number, index, attempt)
        raise UserError(
            f"{_ATTEMPTS} clips in a row cannot be used, the last: {broken[-1]}; is this corpus whole? "
            "`ivjax data validate` says what is wrong with it"
        )

    def report(self) -> dict[str, float]:
        """Returns the mean milliseconds of the last clips, the use of the cache, and remarks on rows."""
        times = list(self._times)
        taken = {"data/ms_per_clip": round(1e3 * sum(times) / len(times), 2)} if times else {}
        remarks = {f"data/{word}": float(count) for word, count in self._remarks.items()}
        copied = {} if self._shards is None else self._shards.report()
        return taken | remarks | copied | self._cache_report()

    def _cache_report(self) -> dict[str, float]:
        """The share of visits since the last report that found their clip decoded, and what that takes."""
        if self._cache is None:
            return {}
        before, self._reported = self._reported, self._cache.counts()
        hits = self._reported.hits - before.hits
        visits = hits + self._reported.misses - before.misses
        share = {"data/cache_hits": round(hits / visits, 3)} if visits else {}
        return share | {"data/cache_gib": round(self._reported.bytes / 2**30, 6)}

    def stop(self) -> None:
        """Abandons the examples that are being made, by ending the worker processes."""
        if self._shards is not None:
            self._shards.stop()
        self._runner.stop()

    def close(self) -> None:
        """Closes workers, corpora and caches."""
        self._runner.close()
        # First, because it asks the maker in a thread.
        if self._shards is not None:
            self._shards.close()
        self._maker.close()
        if self._cache_file is not None:
            self._cache_file.close()

    def _try(self, index: int, number: int, row: BatchRow) -> Ran | ClipError:
        if number in self._costly:
            return self._costly[number]
        try:
            with contextlib.nullcontext() if self._shards is None else self._shards.reading(number):
                ran = self._runner.run(index, number, row)
        except ClipError as error:
            if error.cause in LOST_CAUSES:
                # A clip that takes too long to be decoded whole may still give the few frames of a row.
                if self._cache is not None and self._cache.leave_out(number):
                    return self._try(index, number, row)
                self._costly[number] = error
            return error
        self._times.append(ran.seconds)
        return ran

    def _broken_part(self, part: LeftOut) -> BrokenClip:
        shard, record = self._maker.corpora[part.corpus].place(part.record)
        return BrokenClip(self._maker.folders[part.corpus], shard, record, part.cause, part.detail)


class InProcess:
    """Decodes in threads of this process, for debugging: a crash of the decoder is a crash of the run."""

    threads = 2

    def __init__(self, maker: Maker):
        self._maker = maker

    def run(self, index: int, number: int, row: BatchRow) -> Ran:
        """Fills a row in this thread."""
        started = time.perf_counter()
        example = self._maker.make(index, number)
        fill_row(row, example, index, number)
        return Ran(time.perf_counter() - started, example.left_out)

    def stop(self) -> None:
        """Does nothing: a decoder in a thread cannot be stopped."""

    def close(self) -> None:
        """Does nothing: there is nothing to close."""


class Processes:
    """Worker processes, each busy with one clip at a time; one that dies or hangs is replaced."""

    def __init__(self, maker: Maker, count: int, seconds: float, cache: IO[bytes] | None):
        self.threads = count + 1  # one copies a finished example while its worker is at the next
        self._seconds = seconds
        self._workers = [_Worker(maker, cache) for _ in range(count)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def run(self, index: int, number: int, row: BatchRow) -> Ran:
        """Fills a row from the next idle worker."""
        # A SimpleQueue hands each worker to one thread, and needs no lock around the choice.
        worker = self._idle.get()
        try:
            error, left_out, taken = worker.make(index, number, self._seconds)
            if error is not None:
                raise error
            # Copied before the worker is given back: its next clip goes into the same memory.
            fill_row(row, worker.slot, index, number)
            return Ran(taken, left_out)
        except LostError as lost:
            raise ClipError(lost.cause, lost.detail) from None
        finally:
            self._idle.put(worker)

    def stop(self) -> None:
        """Kills the processes, which frees the threads that wait for one."""
        for worker in self._workers:
            worker.child.abandon()

    def close(self) -> None:
        """Ends the processes and frees the memory that they share."""
        for worker in self._workers:
            worker.close()


class _Worker:
    """A worker process, started again after a crash, and the memory that it shares with this one."""

    def __init__(self, maker: Maker, cache: IO[bytes] | None):
        # It has no name, so a kill leaves nothing behind; every process of this worker maps it.
        self._memory = memory_file(room(maker.spec))
        self.slot = views(mmap.mmap(self._memory.fileno(), room(maker.spec)), maker.spec)
        files = [file.fileno() for file in (self._memory, cache) if file is not None]
        self.child = SteadyChild(lambda: Child("ivjax.data_pipelines.load.decode_worker", maker, files))

    def make(self, index: int, number: int, seconds: float) -> Answer:
        """Has the process put an example into `slot`; raises LostError if it crashes or hangs."""
        return self.child.ask((index, number), seconds)

    def close(self) -> None:
        """Ends the process and frees the memory."""
        self.child.close()
        self._memory.close()
