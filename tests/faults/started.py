"""Starts `ivjax` in sessions of its own, kills it, and compares what runs have left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOGGED = str(Path(__file__).with_name("logged.py"))
_OF_A_STEP = ("loss", "grad_norm", "lr", "skipped")


class Started:
    """A command under way; its output goes to a file."""

    def __init__(self, log: Path, *words: str, cwd: Path, before: Sequence[str] = (), **environment: str):
        self.log = log
        settings = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "ivjax", *words],
                cwd=cwd,
                env=os.environ | settings | environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def shown(self) -> str:
        """What it has written to the screen."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """Kills it with all that it has started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def children(self) -> list[int]:
        """The processes that it has started itself."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            return [int(number) for number in listed.read_text().split()]
        except FileNotFoundError:
            return []

    def finish(self) -> str:
        """Waits for its end, which must be a good one without a traceback; returns what it has shown."""
        status = self.process.wait(timeout=600)
        assert status == 0, self.shown
        assert "Traceback" not in self.shown, self.shown
        return self.shown

    def wait(self, seconds: float) -> bool:
        """Waits so long; returns whether it still lives."""
        deadline = time.monotonic() + seconds
        while self.lives and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.lives


def curve(run: Path) -> dict[tuple[int, str], dict[str, float]]:
    """Every logged value of a run that does not depend on time, by step and kind; no line may come twice."""
    found: dict[tuple[int, str], dict[str, float]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        kept = {name: v for name, v in values.items() if name in _OF_A_STEP or name.startswith("eval/")}
        key = (values["step"], "step" if "loss" in values else "eval")
        assert key not in found, f"{key} is logged twice"
        found[key] = kept
    return found


def fed(file: Path) -> dict[int, str]:
    """The digest of each batch that was fed, by its first clip; one that is fed again must be the same."""
    found: dict[int, str] = {}
    for line in file.read_text().splitlines():
        # A kill may leave half a line.
        if line.startswith("{") and line.endswith("}"):
            batch = json.loads(line)
            assert found.setdefault(batch["first"], batch["digest"]) == batch["digest"]
    return found


def phase(run: Path, shown: str) -> str:
    """What a run is at."""
    checkpoints = list((run / "checkpoints").glob("*")) if (run / "checkpoints").is_dir() else []
    if "time: compile" in shown:
        return "end"
    if "\nstep " in shown:
        return "save" if any("tmp" in entry.name for entry in checkpoints) else "step"
    if "memory  " not in shown:
        return "restore" if (run / "owner.json").exists() and checkpoints else "import"
    return "compile"
