"""Fills rows with examples, in this process or in worker processes that may crash or hang."""

import contextlib
import mmap
import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import Pipe
from typing import Protocol

from ivjax.data_pipelines.examples import ExampleMaker
from ivjax.data_pipelines.faults import Fault
from ivjax.data_pipelines.loader import Rows, store
from ivjax.data_pipelines.records import ClipError
from ivjax.data_pipelines.worker import room, views
from ivjax.errors import UserError

_ATTEMPTS = 32  # replacements in a row that may be broken too
_START_SECONDS = 120  # importing may take long on a busy machine


class _Runner(Protocol):
    """Writes one example into a row; raises ClipError."""

    threads: int

    def run(self, index: int, number: int, row: Rows) -> None: ...

    def close(self) -> None: ...


class ClipRows:
    """A loader's Maker over clips: broken ones are replaced, the same way on every host and restart."""

    def __init__(self, maker: ExampleMaker, workers: int, seconds: float):
        self._maker = maker
        self._runner: _Runner = Processes(maker, workers, seconds) if workers else InProcess(maker)
        self._known: dict[int, ClipError] = {}  # not tried again: a hang costs its whole time limit

    @property
    def threads(self) -> int:
        """Threads that may fill rows at once."""
        return self._runner.threads

    def fill(self, index: int, number: int, row: Rows) -> Sequence[Fault]:
        """See Maker."""
        faults: list[Fault] = []
        candidate = number
        for attempt in range(_ATTEMPTS):
            error = self._try(index, candidate, row)
            if error is None:
                if "replaced" in row:
                    row["replaced"][...] = attempt > 0
                return faults
            faults.append(self._fault(candidate, error))
            candidate = self._maker.replacement(number, index, attempt)
        raise UserError(
            f"{_ATTEMPTS} clips in a row cannot be used, the last: {faults[-1]}; is this corpus whole? "
            "`ivjax data validate` says what is wrong with it"
        )

    def close(self) -> None:
        """Ends worker processes and closes files."""
        self._runner.close()
        self._maker.close()

    def _try(self, index: int, number: int, row: Rows) -> ClipError | None:
        if number in self._known:
            return self._known[number]
        try:
            self._runner.run(index, number, row)
        except ClipError as error:
            self._known[number] = error
            return error
        return None

    def _fault(self, number: int, error: ClipError) -> Fault:
        corpus, local = self._maker.locate(number)
        shard, record = self._maker.corpora[corpus].place(local)
        return Fault(self._maker.folders[corpus], shard, record, error.cause, error.detail)


class InProcess:
    """Decodes in this process's own threads: for debugging, a crash of the decoder is a crash here."""

    threads = 2

    def __init__(self, maker: ExampleMaker):
        self._maker = maker

    def run(self, index: int, number: int, row: Rows) -> None:
        """See _Runner."""
        store(row, self._maker.make(index, number), index)

    def close(self) -> None:
        """Nothing to end."""


class Processes:
    """Worker processes, each busy with one clip at a time; one that dies or hangs is replaced."""

    def __init__(self, maker: ExampleMaker, count: int, seconds: float):
        self.threads = count + 1  # one copies a finished example while its worker is at the next
        self._maker = maker
        self._seconds = seconds
        self._closed = False
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for process in [_Process(maker) for _ in range(count)]:
            self._idle.put(process)

    def run(self, index: int, number: int, row: Rows) -> None:
        """See _Runner."""
        process = self._idle.get()
        try:
            process.make(index, number, self._seconds)
            store(row, process.slot, index)
        except ClipError:
            if not process.alive:
                process.end()
                process = _Process(self._maker)
            raise
        finally:
            if self._closed:
                process.end()
            self._idle.put(process)

    def close(self) -> None:
        """Ends the processes."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().end()


class _Process:
    """One worker process, and the memory that it shares with us."""

    def __init__(self, maker: ExampleMaker):
        self._pipe, theirs = Pipe()
        with tempfile.TemporaryFile() as memory:
            os.truncate(memory.fileno(), room(maker.spec))
            self._memory = mmap.mmap(memory.fileno(), room(maker.spec))
            handles = (theirs.fileno(), memory.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ivjax.data_pipelines.worker", *map(str, handles)],
                pass_fds=handles,
                env=_environment(),
                stdin=subprocess.DEVNULL,
            )
        theirs.close()
        self.slot = views(self._memory, maker.spec)
        self._pipe.send(maker)
        self._started = False

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._process.poll() is None

    def make(self, index: int, number: int, seconds: float) -> None:
        """Has an example put into `slot`; raises ClipError for a clip that is broken, or breaks it."""
        self._wait_for_start()
        try:
            self._pipe.send((index, number))
            if not self._pipe.poll(seconds):
                self.end()
                raise ClipError("hang", f"decoding did not end within {seconds:g} s")
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.wait()
            raise ClipError("crash", f"the decoder ended with status {self._process.returncode}") from None
        if answer is not None:
            raise answer

    def _wait_for_start(self) -> None:
        if self._started:
            return
        try:
            if not self._pipe.poll(_START_SECONDS):
                raise EOFError
            self._pipe.recv()
        except (EOFError, ConnectionError):
            self.end()
            raise UserError(
                "a decode process did not start; its own message stands above. data.workers=0 decodes "
                "without one"
            ) from None
        self._started = True

    def end(self) -> None:
        """Kills the process; it holds nothing that needs saving."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()


def _environment() -> dict[str, str]:
    """Ours, with the same modules in reach and one thread for whatever wants to use many."""
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
