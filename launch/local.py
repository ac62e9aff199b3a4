"""Runs a command in several processes on this machine, joined over loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from ivjax.errors import UserError
from ivjax.launch.command import IN_SEVERAL_PROCESSES
from ivjax.launch.host_entry import end_with_parent

_POLL_SECONDS = 0.2
# The survivors cannot save, so this only lets them close files; a save is never waited for here.
_GRACE_SECONDS = 15.0


def run_local(command: Sequence[str], processes: int, devices: int | None = None) -> int:
    """Runs `ivjax COMMAND` in `processes` processes and returns the first non-zero exit status, or 0.

    `devices` gives each process that many fake CPU devices. If one process fails, the others are ended,
    because a job cannot go on without it. SIGTERM and Ctrl-C are passed on to all.
    """
    if processes < 1:
        raise UserError(f"--processes {processes}: a job has at least one process")
    if command[0] not in IN_SEVERAL_PROCESSES:
        can = " and ".join(IN_SEVERAL_PROCESSES)
        raise UserError(f"{command[0]} runs in one process, and {can} in several; start it by itself")
    coordinator = f"127.0.0.1:{_free_port()}"
    environment = dict(os.environ)
    if devices is not None:
        environment["JAX_PLATFORMS"] = "cpu"
        flags = environment.get("XLA_FLAGS", "")
        # Appended: XLA takes the last of equal flags, and the user's other flags stay.
        environment["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}"
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "ivjax.cli", *command]
            + ["--coordinator", coordinator, "--processes", str(processes), "--process", str(process)],
            env=environment,
            preexec_fn=end_with_parent,
        )
        for process in range(processes)
    ]

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in children:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    return _wait(children)


def _wait(children: list[subprocess.Popen[bytes]]) -> int:
    # All are asked each time: a child that is not asked never learns that it has ended.
    while None in [process.poll() for process in children]:
        # Looked for before all have ended: a dead peer leaves the others waiting in a collective, where jax
        # notices only after its heartbeat timeout of 100 s.
        failed = next((process.returncode for process in children if process.returncode), 0)
        if failed:
            _end(children)
            return failed
        time.sleep(_POLL_SECONDS)
    return next((process.returncode for process in children if process.returncode), 0)


def _end(children: list[subprocess.Popen[bytes]]) -> None:
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
