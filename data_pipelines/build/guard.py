"""Makes clips in a process of its own: a decoder that crashes or hangs costs one row, not the build."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType

import av.logging

from ivjax.data_pipelines.build.recipe import Drop, Outcome, Recipe
from ivjax.data_pipelines.build.steps import make_outcome
from ivjax.data_pipelines.sources.row import Row
from ivjax.errors import UserError

_START_SECONDS = 120  # importing may take long on a busy machine
_ATTEMPTS = 2  # a crash may be the fault of an earlier row, a hang is taken as it is


class AbandonedError(Exception):
    """The build is being given up; the row was not finished."""


class _CrashError(Exception):
    """The process ended while it was at a row."""


class GuardedMaker:
    """Rows in, outcomes out, one at a time; a row may take `seconds`."""

    def __init__(self, recipe: Recipe, seconds: float):
        self._recipe = recipe
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._abandoned = False

    def make(self, row: Row) -> Outcome:
        """What comes of a row; if it breaks its process, a drop that says so."""
        for _ in range(_ATTEMPTS):
            if self._abandoned:
                raise AbandonedError
            if self._process is None:
                self._start()
            try:
                return self._ask(row)
            except _CrashError as crash:
                reason = str(crash)
        return _dropped(row, "crash", reason)

    def abandon(self) -> None:
        """Ends the row that another thread is at, and refuses further ones."""
        self._abandoned = True
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Ends the process; it holds nothing that needs saving."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._pipe.close()
            self._process = None

    def _ask(self, row: Row) -> Outcome:
        assert self._process is not None
        try:
            self._pipe.send(row)
            if not self._pipe.poll(self._seconds):
                self.close()
                return _dropped(row, "hang", f"it was not done within {self._seconds:g} s")
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            status = self._process.wait()
            self.close()
            raise _CrashError(f"its process ended with status {status}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ivjax.data_pipelines.build.guard", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        try:
            self._pipe.send(self._recipe)
            ready = self._pipe.poll(_START_SECONDS) and self._pipe.recv()
        except (EOFError, ConnectionError):
            ready = False
        if not ready:
            self.close()
            raise UserError("a process that makes clips did not start; its own message stands above")

    def __enter__(self) -> "GuardedMaker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _dropped(row: Row, cause: str, detail: str) -> Outcome:
    return Outcome(drops=(Drop(row.id, row.path, cause, detail),))


def main(pipe: int) -> None:
    """Serves until the parent closes the pipe."""
    for name in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which then ends us
        signal.signal(name, signal.SIG_IGN)
    av.logging.set_level(av.logging.PANIC)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    connection = Connection(pipe)
    with contextlib.suppress(EOFError, ConnectionError):
        recipe: Recipe = connection.recv()
        connection.send(True)
        while True:
            connection.send(_serve(connection.recv(), recipe))


def _serve(row: Row, recipe: Recipe) -> Outcome | UserError:
    try:
        return make_outcome(row, recipe)
    except UserError as error:
        return error
    except Exception as error:  # whatever a strange file provokes must not end the build
        return _dropped(row, "error", f"{type(error).__name__}: {error}")


def _follow(parent: int) -> None:
    """Ends this process, even one that hangs in a decoder, when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
