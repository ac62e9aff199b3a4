"""The run's numbers: a JSONL file always, TensorBoard beside it, a line on the terminal."""

import json
import math
from pathlib import Path
from typing import Any

import jax

from ivjax.drafts import set_aside, store
from ivjax.errors import UserError
from ivjax.progress import Say


class MetricsLog:
    """Writes metrics from process 0; a resumed run continues the file where its checkpoint stands."""

    def __init__(self, folder: Path, step: int, say: Say = print):
        self._file = folder / "metrics.jsonl"
        self._main = jax.process_index() == 0
        if self._main:
            from tensorboardX import SummaryWriter  # only a run needs it, not what imports the options

            self._forget_after(step, say)
            # By lines, so that a kill loses at most the one that is being written.
            self._lines = self._file.open("a", buffering=1)
            # TensorBoard drops what an earlier start has written from purge_step on.
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def _forget_after(self, step: int, say: Say) -> None:
        """Drops lines of steps that will be done again, and lines that cannot be read."""
        if self._file.is_dir():
            aside = set_aside(self._file)
            say(f"{self._file} is a folder; it is {aside.name} now, and the metrics start anew")
        if not self._file.is_file():
            return
        kept, unreadable = [], 0
        # As bytes: one damaged line must not take the others with it.
        for line in self._file.read_bytes().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + b"\n")
            except (ValueError, KeyError, TypeError, RecursionError):
                unreadable += 1
        # One is what a kill leaves half-written.
        if unreadable > 1:
            say(f"{unreadable} lines of {self._file} cannot be read; they are dropped")
        # Replaced in one move: a kill here must not take the history of the run.
        store(self._file, b"".join(kept))

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Stores one step's values."""
        if not self._main:
            return
        # JSON has no word for what is no number, such as the loss of a skipped step.
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self._lines.write(json.dumps({"step": step, **plain}, allow_nan=False) + "\n")
        for name, value in values.items():
            # Some values are words, such as the MFU of an unknown device.
            if isinstance(value, int | float):
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes both files."""
        if self._main:
            self._lines.close()
            self._board.close()


def console_line(step: int, steps: int, values: dict[str, Any]) -> str:
    """A log line for a person."""
    parts = [f"{name} {_short(value)}" for name, value in values.items() if not name.startswith("time/")]
    return f"step {step}/{steps}  " + "  ".join(parts)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def open_workdir(folder: Path) -> None:
    """Makes the run folder and proves that it can be written."""
    scheme, colon, _ = str(folder).partition(":/")
    if colon and scheme.isalnum():
        raise UserError(
            f"the run folder {scheme}:/... is a bucket, and a run is made of plain files: mount it, as ivjax "
            "launch does, and give the folder of the mount"
        )
    # The name has the process in it: several hosts may probe one folder at the same time.
    probe = folder / f".write-test-{jax.process_index()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write in the run folder {folder} ({error.strerror}); choose another --workdir"
        ) from None
