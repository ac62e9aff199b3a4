"""Runs a command in several processes on this machine, joined over loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

from ivjax.errors import UserError
from ivjax.launch.command import IN_SEVERAL_PROCESSES
from ivjax.launch.host_entry import BAD_INPUT, end_with_parent, shell_status
from ivjax.progress import Say

_POLL_SECONDS = 0.2
# The survivors cannot save, so this only lets them close files; a save is never waited for here.
_GRACE_SECONDS = 5.0


def run_local(
    command: Sequence[str], processes: int, devices: int | None = None, restarts: int = 0, say: Say = print
) -> int:
    """Runs `ivjax COMMAND` in `processes` processes and returns the first non-zero exit status, or 0.

    `devices` gives each process that many fake CPU devices. If one process fails, the others are ended,
    because a job cannot go on without it, and all start again up to `restarts` times, unless the command
    itself is wrong. SIGTERM and Ctrl-C are passed on to all.
    """
    if processes < 1:
        raise UserError(f"--processes {processes}: a job has at least one process")
    if restarts < 0:
        raise UserError(f"--restarts {restarts}: give 0 or more")
    if command[0] not in IN_SEVERAL_PROCESSES:
        can = " and ".join(IN_SEVERAL_PROCESSES)
        raise UserError(f"{command[0]} runs in one process, and {can} in several; start it by itself")
    environment = dict(os.environ)
    if devices is not None:
        environment["JAX_PLATFORMS"] = "cpu"
        flags = environment.get("XLA_FLAGS", "")
        # Appended: XLA takes the last of equal flags, and the user's other flags stay.
        environment["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}"
    children: list[subprocess.Popen[bytes]] = []
    stops: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        stops.append(number)
        for process in children:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    for start in range(restarts + 1):
        children[:] = _started(command, processes, environment)
        failed = _wait(children)
        if failed is None:
            return 0
        status = children[failed].returncode
        again = start < restarts and status != BAD_INPUT and not stops
        then = f"; the job starts again, restart {start + 1} of {restarts}" if again else ""
        say(f"process {failed} of {processes} ended with status {status}, and so did the job{then}")
        if not again:
            break
    return shell_status(status)


def _started(
    command: Sequence[str], processes: int, environment: Mapping[str, str]
) -> list[subprocess.Popen[bytes]]:
    # A port of its own for each start: the one before may be held by what has not ended yet.
    coordinator = f"127.0.0.1:{_free_port()}"
    return [
        subprocess.Popen(
            [sys.executable, "-m", "ivjax", *command]
            + ["--coordinator", coordinator, "--processes", str(processes), "--process", str(process)],
            env=environment,
            preexec_fn=end_with_parent,
        )
        for process in range(processes)
    ]


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Waits for the end of all; returns the number of the first that failed, and ends the others then."""
    # All are asked each time: a child that is not asked never learns that it has ended.
    while None in [process.poll() for process in children]:
        # Looked for before all have ended: a dead peer leaves the others waiting in a collective, where they
        # notice only after a minute.
        if (failed := _failed(children)) is not None:
            _end(children)
            return failed
        time.sleep(_POLL_SECONDS)
    return _failed(children)


def _failed(children: Sequence[subprocess.Popen[bytes]]) -> int | None:
    return next((number for number, process in enumerate(children) if process.returncode), None)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends the processes that still run: they wait for a peer that is gone, and so cannot save."""
    for process in children:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in children:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    # Another process may take the port before the job does. Then it fails at once, and a second try works.
    with socket.socket() as probe:
        # Port 0 lets the kernel choose a free one.
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
