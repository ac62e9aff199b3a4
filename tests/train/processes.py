"""Runs the `ivjax` command in processes of its own, to be killed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.xla import quick_flags

ROOT = Path(__file__).resolve().parents[2]
MICRO = str(ROOT / "tests" / "train" / "micro.py")


def start(*arguments: str, devices: int = 1) -> subprocess.Popen[str]:
    """Starts `ivjax ARGUMENTS` with that many fake devices."""
    flags = {"XLA_FLAGS": quick_flags(devices), "JAX_PLATFORMS": "cpu"}
    environment = os.environ | flags | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "ivjax", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """Waits for the end and returns what was printed; asserts the exit status."""
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == status, printed
    return printed


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 180) -> None:
    """Polls until `condition` holds; fails if the process ends first."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the moment to wait for never came"
        time.sleep(0.002)


def steps_logged(folder: Path) -> int:
    """Lines in the run's metrics file so far."""
    file = folder / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.is_file() else 0


def being_saved(folder: Path) -> bool:
    """Whether a half-written checkpoint lies in the run folder."""
    return any((folder / "checkpoints").glob("*tmp*"))
