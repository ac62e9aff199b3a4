"""Worker processes that take tasks from one list."""

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

from ivjax.sweep.work import Reply, Task

Told = Callable[[Task, Reply], None]
COMMAND = (sys.executable, "-m", "ivjax.sweep.worker")
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

    def ask(self, task: Task) -> Reply:
        """Has a worker do a task."""
        with self._lock:
            worker = self._idle.pop() if self._idle else _Worker()
            self._busy.add(worker)
        # Whoever is busy when the signal comes is told by its handler.
        reply = None if self.stopping else worker.ask(task)
        with self._lock:
            self._busy.discard(worker)
            if reply is not None:
                self._idle.append(worker)
                return reply
        status = worker.end()
        if self.stopping:
            return {"status": "stopped"}
        return {"status": "failed", "why": _epitaph(status, Path(task["log"]))}

    def work(self, tasks: Sequence[Task], told: Told) -> None:
        """Does all tasks; `told` hears of each reply, one at a time."""
        waiting, telling = deque(tasks), threading.Lock()

        def labour() -> None:
            while not self.stopping:
                try:
                    task = waiting.popleft()
                except IndexError:
                    return
                reply = self.ask(task)
                with telling:
                    told(task, reply)

        threads = [threading.Thread(target=labour) for _ in range(min(self._size, len(tasks)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self.stopping = self.stopping, True
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

    def ask(self, task: Task) -> dict[str, Any] | None:
        """The reply to a task; None if the process died of it."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def stop(self, at_once: bool) -> None:
        """Asks the process to save and to stop; `at_once`: ends it."""
        with contextlib.suppress(ProcessLookupError):
            (self._process.kill if at_once else self._process.terminate)()

    def end(self) -> int:
        """Has the process end, if it has not yet; its exit status."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        status = self._process.wait()
        self._process.stdout.close()
        return status


def _epitaph(status: int, log: Path) -> str:
    """Why a worker died, in a sentence."""
    how = f"exit status {status}"
    if status < 0:
        name = signal.Signals(-status).name
        how = f"{name}, which mostly means too little memory" if name == "SIGKILL" else name
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    last = " | ".join(line.strip() for line in lines[-_LAST_LINES:])
    return f"its process ended with {how}; the last lines of {log} are: {last}"
