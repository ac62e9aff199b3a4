"""One line a step: what it does and how long it still takes while it runs, and its result at its end."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TextIO

from ivjax.progress import duration

_BAR = 20  # characters
_NAME, _RESULT = 14, 56  # columns
_TAIL = 4096  # bytes at the end of a log in which its last line is looked for
_DONE = re.compile(r"step (\d+/\d+) |([\d,]+ of [\d,]+ \w+)")
_LEFT = re.compile(r"([\d:]+) (?:s|min|h) left")


class LoggedProgress(NamedTuple):
    """What a command has logged of its progress, and how many seconds were left then; None: unsaid."""

    done: str
    left: float | None


def logged_progress(log: str) -> LoggedProgress | None:
    """Returns the latest progress that a log tells of: of a training, or of clips, videos, questions."""
    for line in reversed(log.splitlines()):
        if found := _DONE.search(line):
            left = _LEFT.search(line)
            done = f"step {found[1]}" if found[1] else found[2]
            return LoggedProgress(done, _seconds(left[1]) if left else None)
    return None


def result_line(name: str, result: str, seconds: float) -> str:
    """Returns the line of a step that is done."""
    return f"{name:<{_NAME}} {result:<{_RESULT}} {duration(seconds):>8}"


class RunningLine:
    """The line of a step that runs; it follows the log of its command. It is drawn on terminals alone.

    The bar moves with the time that the command says is left, so it does not stand still between two lines of
    the log.
    """

    def __init__(self, name: str, log: Path, stream: TextIO, clock: Callable[[], float] = time.monotonic):
        self._name, self._log, self._stream, self._clock = name, log, stream, clock
        self._terminal = stream.isatty()
        self._began = self._told = clock()
        self._latest: LoggedProgress | None = None

    def draw(self) -> None:
        """Draws the line again."""
        if self._terminal:
            self._follow()
            self._stream.write(f"\r\x1b[K{self.text()}")
            self._stream.flush()

    def clear(self) -> None:
        """Wipes the line out."""
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def text(self) -> str:
        """Returns the line."""
        passed = self._clock() - self._began
        if self._latest is None or self._latest.left is None:
            done = "" if self._latest is None else self._latest.done
            return f"{self._name:<{_NAME}} {done:<22} {duration(passed)}"
        left = max(self._latest.left - (self._clock() - self._told), 0.0)
        filled = int(_BAR * passed / (passed + left)) if passed else 0
        bar = f"[{'#' * filled}{'.' * (_BAR - filled)}]"
        return f"{self._name:<{_NAME}} {self._latest.done:<22} {bar} {duration(left)} left"

    def _follow(self) -> None:
        latest = logged_progress(_end_of(self._log))
        if latest != self._latest:
            self._latest, self._told = latest, self._clock()


def last_lines(log: Path, count: int) -> list[str]:
    """Returns the last lines of a log that are not empty."""
    return [line for line in _end_of(log).splitlines() if line.strip()][-count:]


def _end_of(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - _TAIL, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _seconds(text: str) -> float:
    """Seconds of 12, 3:05 or 2:03:04."""
    total = 0
    for part in text.split(":"):
        total = 60 * total + int(part or 0)
    return float(total)
