"""Worker processes that answer requests from one queue."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from ivjax.sweep.requests import Reply, Request

Told = Callable[[Request, Reply], None]  # called with each request and its reply
COMMAND = (sys.executable, "-m", "ivjax.sweep.worker_process")
_LAST_LINES = 3


class Pool:
    """Up to `size` workers, started when they are needed; one that dies is replaced.

    The first Ctrl-C or SIGTERM lets the workers save and stop, a second Ctrl-C ends them at once.
    """

    def __init__(self, size: int):
        self._size = size
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._lock = threading.Lock()
        self.stopping = False

    def ask(self, request: Request) -> Reply:
        """Sends a request to an idle worker, or to a new one, and waits for the reply."""
        with self._lock:
            worker = self._idle.pop() if self._idle else _Worker()
            self._busy.add(worker)
        # A worker that is busy when the signal comes is told by the signal handler.
        reply = None if self.stopping else worker.ask(request)
        with self._lock:
            self._busy.discard(worker)
            if reply is not None:
                self._idle.append(worker)
                return reply
        status = worker.end()
        if self.stopping:
            return {"status": "stopped"}
        return {"status": "failed", "why": _cause_of_death(status, Path(request["log"]))}

    def work(self, requests: Sequence[Request], told: Told) -> None:
        """Answers all requests; `told` is called with each reply, one at a time."""
        waiting, telling = deque(requests), threading.Lock()

        def serve() -> None:
            # A thread for each worker: it waits on the worker's pipe, which frees Python's lock.
            while not self.stopping:
                try:
                    request = waiting.popleft()
                except IndexError:
                    return
                reply = self.ask(request)
                with telling:
                    told(request, reply)

        threads = [threading.Thread(target=serve) for _ in range(min(self._size, len(requests)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self.stopping = self.stopping, True
        # Without the lock, which the interrupted thread may hold; a copy, as others change the set.
        for worker in list(self._busy):
            worker.stop(at_once=again and number == signal.SIGINT)

    @contextlib.contextmanager
    def listening(self) -> Iterator["Pool"]:
        """Obeys signals inside the block, and ends the workers after it."""
        before = {n: signal.signal(n, self._on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for worker in [*self._idle, *self._busy]:
                worker.end()
            for number, handler in before.items():
                signal.signal(number, handler)


class _Worker:
    def __init__(self) -> None:
        # In a session of its own, so that Ctrl-C reaches it through its parent alone.
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, request: Request) -> dict[str, Any] | None:
        """The reply to a request; None if the process died of it."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        # A worker that dies in the middle of its answer leaves a line without an end.
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def stop(self, at_once: bool) -> None:
        """Asks the process to save and to stop; `at_once`: ends it."""
        with contextlib.suppress(ProcessLookupError):
            (self._process.kill if at_once else self._process.terminate)()

    def end(self) -> int:
        """Ends the process, if it has not ended yet, and returns its exit status."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            # The end of its input is what tells a worker to end.
            self._process.stdin.close()
        status = self._process.wait()
        self._process.stdout.close()
        return status


def _cause_of_death(status: int, log: Path) -> str:
    """A sentence on how a worker ended."""
    how = f"exit status {status}"
    if status < 0:
        name = signal.Signals(-status).name
        how = f"{name}, which mostly means too little memory" if name == "SIGKILL" else name
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    last = " | ".join(line.strip() for line in lines[-_LAST_LINES:])
    return f"its process ended with {how}; the last lines of {log} are: {last}"
