"""Runs a command on each host of a cluster, with an exit status that tells a stop from an end."""

import ctypes
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from ivjax.experiment.buckets import local
from ivjax.experiment.run_folder import checkpoint_steps, phase_folder
from ivjax.launch.command import LaunchedCommand

# EX_TEMPFAIL of sysexits.h: neither Python (1, 2) nor the shell (126 and above) uses it.
STOPPED = 75
"""The exit status of a command that was stopped before its end and wants to be run again."""

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)

BAD_INPUT = 2
"""The exit status of a command that will fail in the same way each time."""


def run_on_host(command: Sequence[str]) -> int:
    """Runs `ivjax COMMAND`, passes SIGTERM on to it, and returns its exit status, or STOPPED.

    `ivjax train` ends with status 0 when a SIGTERM, here or on another host, made it save and leave. A
    scheduler would take that for the end of the run, so the run folder decides whether it was.
    """
    signals: list[int] = []
    # A process of its own, so that a crash in native code also ends with a status that is read here.
    child = subprocess.Popen([sys.executable, "-m", "ivjax", *command], preexec_fn=end_with_parent)

    def forward(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        child.send_signal(number)

    before = signal.signal(signal.SIGTERM, forward)
    try:
        status = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    folder = _workdir(command)
    unfinished = bool(signals) if folder is None else not finished(folder)
    if status == 0 and unfinished:
        return STOPPED
    if status == -signal.SIGABRT:
        print(
            "ivjax launch worker: this process was ended because another one of its job has died, whose last "
            "lines may say why",
            file=sys.stderr,
        )
    return shell_status(status)


def shell_status(status: int) -> int:
    """Returns an exit status of Popen, which is -N for a death by signal N, as the shell's 128 + N."""
    return status if status >= 0 else 128 - status


def end_with_parent() -> None:
    """Called in a new process: it gets SIGTERM when the one that started it dies, however that dies."""
    # Linux alone can do that; elsewhere a killed parent leaves its children running.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def finished(folder: Path) -> bool:
    """Whether a run folder has a checkpoint of the last step of its experiment, or of its last phase."""
    # The file is read as plain JSON: loading the experiment would import the stage, seconds for every look.
    try:
        stored = json.loads((folder / "experiment.json").read_text())
        phases = [phase["name"] for phase in stored.get("phases") or ()]
        steps = int(stored["steps"])
    # A run that was stopped before it wrote its experiment is unfinished, not broken.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if phases:
        return finished(phase_folder(folder, len(phases), phases[-1]))
    # `>=`: a run that goes on with a smaller number of steps has checkpoints beyond its last step.
    return max(checkpoint_steps(folder), default=0) >= steps


def _workdir(command: Sequence[str]) -> Path | None:
    """Returns the run folder of a train command; None for other commands."""
    workdir = LaunchedCommand(tuple(command)).workdir if command[0] == "train" else None
    return None if workdir is None else local(workdir)
