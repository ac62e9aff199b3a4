"""What a cluster starts on each host: the command, with an exit status that tells a stop from an end."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

STOPPED = 75
"""The exit status of a command that was stopped before its end and wants to be run again."""

BAD_INPUT = 2
"""The exit status of a command that will fail in the same way each time."""


def run_on_host(command: Sequence[str]) -> int:
    """Runs `ivjax COMMAND`, passes SIGTERM on to it, and returns its exit status, or STOPPED.

    `ivjax train` ends with status 0 when a SIGTERM, here or on another host, made it save and leave:
    a scheduler would take that for the end of the run. So the run folder is asked whether it was.
    """
    asked: list[int] = []
    child = subprocess.Popen([sys.executable, "-m", "ivjax.cli", *command])

    def pass_on(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        child.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        status = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    folder = _workdir(command)
    unfinished = bool(asked) if folder is None else not finished(folder)
    if status == 0 and unfinished:
        return STOPPED
    return status if status >= 0 else 128 - status


def finished(folder: Path) -> bool:
    """Whether a run folder has a checkpoint of the last step of its experiment."""
    try:
        steps = json.loads((folder / "experiment.json").read_text())["steps"]
        saved = [int(entry.name) for entry in (folder / "checkpoints").iterdir() if entry.name.isdecimal()]
    except (OSError, ValueError, KeyError):
        return False
    return max(saved, default=0) >= steps


def _workdir(command: Sequence[str]) -> Path | None:
    """The run folder of a train command."""
    if command[0] != "train" or "--workdir" not in command[:-1]:
        return None
    return Path(command[list(command).index("--workdir") + 1])
