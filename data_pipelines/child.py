"""A child process for work that may crash or hang, such as decoding."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import av.logging

from ivjax.errors import UserError

LOST_CAUSES = ("crash", "hang")

_START_SECONDS = 120  # importing may take long on a busy machine


def usable_cores() -> int:
    """Returns the number of cores that this process may run on."""
    # Not cpu_count: in a container, or under Slurm, a process may use fewer cores than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LostError(Exception):
    """The child has ended; `cause` is one of LOST_CAUSES."""

    def __init__(self, cause: str, detail: str):
        super().__init__(cause, detail)
        self.cause = cause
        self.detail = detail


class AbandonedError(UserError):
    """The question was not answered, because the work was abandoned."""

    def __init__(self) -> None:
        super().__init__("this work was stopped before it was done; run the same command to go on")


class Child:
    """A process `python -m MODULE PIPE [FILES]` that answers questions; the module calls `serve`.

    Unlike multiprocessing's, it does not import the main script. It ends when this process does.

    Attributes:
        module: the module to run.
        setup: sent to the child before the first question.
        files: descriptors that the child inherits.
    """

    def __init__(self, module: str, setup: Any, files: Sequence[int] = ()):
        self._pipe, theirs = Pipe()
        handles = (theirs.fileno(), *files)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, handles)],
            pass_fds=handles,
            env=_environment(),
            # Otherwise a child would read what is typed for its parent.
            stdin=subprocess.DEVNULL,
        )
        # Else the pipe has two writers, and the death of the child would not end it.
        theirs.close()
        # Connection.poll makes a selector at each call, which takes longer than sending the question.
        self._answers = select.poll()
        self._answers.register(self._pipe.fileno(), select.POLLIN)
        self._started = False
        with contextlib.suppress(ConnectionError):  # a child that ended already is met at the first question
            self._pipe.send(setup)

    def ask(self, question: Any, seconds: float) -> Any:
        """Returns the child's answer. If none comes in time, ends the child and raises LostError."""
        self._wait_for_start()
        try:
            self._pipe.send(question)
            if not self._answers.poll(1000 * seconds):
                self.close()
                raise LostError("hang", f"it was not done within {seconds:g} s")
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            status = self._process.wait()
            self.close()
            raise LostError("crash", f"its process ended with status {status}") from None

    def kill(self) -> None:
        """Ends the child; the question that another thread is asking raises LostError."""
        self._process.kill()

    def close(self) -> None:
        """Ends the child and waits until it has ended."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def _wait_for_start(self) -> None:
        if self._started:
            return
        status = None
        try:
            self._started = self._pipe.poll(_START_SECONDS) and self._pipe.recv()
        except (EOFError, ConnectionError):
            # Waited for: the pipe of a process that was killed ends a moment before its status is known.
            status = self._process.wait()
        if not self._started:
            self.close()
            # A signal means a crash, which is worth another try; a status of 1 is an error of its imports.
            if status is not None and status < 0:
                raise LostError("crash", f"its process ended with status {status}")
            raise UserError("a decode process did not start; its own message stands above")


class SteadyChild:
    """A child that is started at once, and again at the next question after it was lost."""

    def __init__(self, start: Callable[[], Child]):
        self._start = start
        self._child: Child | None = start()
        self._abandoned = False

    def ask(self, question: Any, seconds: float) -> Any:
        """Returns the child's answer; raises LostError, or AbandonedError after `abandon`."""
        if self._child is None and not self._abandoned:
            self._child = self._start()
        if self._child is None or self._abandoned:  # asked again: it may have happened meanwhile
            raise AbandonedError
        try:
            return self._child.ask(question, seconds)
        except (LostError, UserError):
            self._child = None
            raise

    def abandon(self) -> None:
        """Ends the question that another thread is asking, and refuses later ones."""
        self._abandoned = True
        child = self._child
        # Killed and not closed: the thread that asks still reads from the pipe.
        if child is not None:
            child.kill()

    def close(self) -> None:
        """Ends the child. Call it when no thread asks a question."""
        if self._child is not None:
            self._child.close()
            self._child = None


def serve(pipe: int, prepare: Callable[[Any], Callable[[Any], Any]]) -> None:
    """Runs the child: `prepare(setup)` returns the function that answers questions."""
    for name in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which then ends us
        signal.signal(name, signal.SIG_IGN)
    # FFmpeg reports every damaged frame on stderr; what matters comes back as a ClipError.
    av.logging.set_level(av.logging.PANIC)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    connection = Connection(pipe)
    with contextlib.suppress(EOFError, ConnectionError):
        answer = prepare(connection.recv())
        connection.send(True)
        while True:
            connection.send(answer(connection.recv()))


def _follow(parent: int) -> None:
    """Ends this process, even inside a decoder that hangs, when its parent has ended."""
    # The death of a parent gives no signal on all systems; its children then get another parent.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _environment() -> dict[str, str]:
    """Returns our environment with our module path, and with one thread for numerical libraries."""
    # A process for each core already: more threads would only take turns.
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
