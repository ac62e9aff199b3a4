"""Progress of a long command: a bar on a terminal, a line every few seconds in a log."""

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

Say = Callable[[str], None]  # takes a line for the person who waits

_BAR = 24  # characters
_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 10.0
_SECONDS_OF = {"s": 1, "min": 60, "h": 3600}
_LEAST_RATE = 0.5  # a rate below it is given by a longer unit of time


class Progress:
    """Counts work towards `total` (None: unknown); safe to advance from several threads.

    `with Progress(100, "clips", print) as progress: progress.advance()`. Lines go to `say`, the bar to
    `stream`. `done` at the start (kept from an earlier run) is left out of the rate.
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        say: Say = print,
        stream: TextIO | None = None,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total = total
        self._unit = unit
        self._say = say
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._clock = clock
        self._lock = threading.Lock()
        self._kept = self.done = done
        self._said: int | None = None  # what was done at the latest line
        self._began = self._shown = clock()

    def advance(self, count: int = 1) -> None:
        """Adds `count` to what is done."""
        with self._lock:
            self.done += count
            self._show()

    def text(self) -> str:
        """Returns one line: the share that is done, the rate, and the time left or, at the end, spent."""
        seconds = self._clock() - self._began
        done = self.done - self._kept
        # Before anything is done there is no rate, and nobody knows how long it takes.
        rate = done / seconds if seconds > 0 else 0.0
        parts = [f"{self.done:,} {self._unit}"]
        if self._total is not None:
            share = self.done / self._total if self._total else 1.0
            parts = [f"{self.done:,} of {self._total:,} {self._unit} ({share:.0%})"]
        if rate > 0:
            parts.append(_written(rate, self._unit))
        if self._total is None or self.done >= self._total:
            parts.append(duration(seconds))
        elif rate > 0:
            parts.append(f"{duration((self._total - self.done) / rate)} left")
        return ", ".join(parts)

    def _show(self) -> None:
        now = self._clock()
        if now - self._shown < (_REDRAW_SECONDS if self._terminal else _LINE_SECONDS):
            return
        self._shown = now
        if self._terminal:
            self._draw()
        else:
            self._said = self.done
            self._say(self.text())

    def _draw(self) -> None:
        bar = ""
        if self._total:
            filled = min(_BAR * self.done // self._total, _BAR)
            bar = f"[{'#' * filled}{'.' * (_BAR - filled)}] "
        self._stream.write(f"\r\x1b[K{bar}{self.text()}")
        self._stream.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            self._draw()
            self._stream.write("\n")
            self._stream.flush()
        elif self._said not in (None, self.done) and kind is None:
            # A log that shows how far the work was shall also show its end.
            self._say(self.text())


def _written(rate: float, unit: str) -> str:
    # By the minute or the hour where a second is too short: a run of a sweep takes longer than a clip.
    fitting = (name for name, seconds in _SECONDS_OF.items() if rate * seconds >= _LEAST_RATE)
    time_unit = next(fitting, "h")
    count = rate * _SECONDS_OF[time_unit]
    return f"{count:,.1f} {unit}/{time_unit}" if count >= 0.05 else f"{count:.1g} {unit}/{time_unit}"


def duration(seconds: float) -> str:
    """Returns a duration as 12 s, 3:05 min or 2:03:04 h."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02} h"
    return f"{minutes}:{rest:02} min" if minutes else f"{whole} s"
