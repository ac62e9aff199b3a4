"""A ledger of the time of a run, over all its restarts; `goodput.py` sums it up."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ivjax.drafts import set_aside, store
from ivjax.errors import UserError
from ivjax.progress import Say

CATEGORIES = ("compile", "restore", "data wait", "step", "checkpoint", "eval", "lost work")


class Start(NamedTuple):
    """One start of a run: when it began and was last heard of, in seconds since 1970, and its first step."""

    began: float
    ended: float
    step: int


class StoredTimes(NamedTuple):
    """What a ledger file holds: seconds by category, the same at checkpoints, by step, and the starts."""

    totals: dict[str, float]
    marks: dict[int, dict[str, float]]
    starts: list[Start]


def ledger_file(folder: Path, process: int) -> Path:
    """Returns the file of a process of the job; the first one's stands for the run."""
    return folder / (f"ledger.{process}.json" if process else "ledger.json")


def read_times(file: Path) -> StoredTimes:
    """Returns what a ledger file holds; raises OSError or ValueError for a damaged one."""
    try:
        stored = json.loads(file.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(stored, dict) or not isinstance(stored.get("marks"), dict):
        raise ValueError("it has no marks")
    marks = {int(step): _seconds(totals) for step, totals in stored["marks"].items()}
    # Those of older versions have no starts.
    return StoredTimes(_seconds(stored.get("totals")), marks, _starts(stored.get("starts", [])))


def _starts(stored: Any) -> list[Start]:
    try:
        return [Start(float(began), float(ended), int(step)) for began, ended, step in stored]
    except (TypeError, OverflowError) as error:
        raise ValueError(f"its starts are damaged: {error}") from None


def _seconds(totals: Any) -> dict[str, float]:
    if not isinstance(totals, dict):
        raise ValueError("it has no totals")
    found = {name: totals.get(name, 0.0) for name in CATEGORIES}
    for seconds in found.values():
        if not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
            raise ValueError(f"{seconds!r} are no seconds")
    return found


class TimeLedger:
    """Books every second to one category; `lost work` is what a kill threw away.

    At any moment exactly one category runs. Each process of a job keeps the totals in a file of the run
    folder, with a mark at each checkpoint: after a restart from it, later seconds become lost work.
    """

    def __init__(self, folder: Path, say: Say = print, process: int = 0):
        self._file = ledger_file(folder, process)
        self._say, self._failed = say, False
        self._now = dict.fromkeys(CATEGORIES, 0.0)
        self._earlier = dict(self._now)
        self._marks: dict[int, dict[str, float]] = {}
        self._starts: list[Start] = []
        if self._file.exists():
            try:
                self._earlier, self._marks, self._starts = read_times(self._file)
            # A record of times must never keep a run from going on.
            except (OSError, ValueError) as error:
                aside = set_aside(self._file)
                say(f"{self._file} cannot be read ({error}); it is {aside.name} now, and times start anew")
        # All that comes before the first batch counts as compiling, except what is booked otherwise.
        self._starts.append(Start(time.time(), time.time(), 0))
        self._running = "compile"
        self._since = time.perf_counter()

    @property
    def running(self) -> str:
        """The category that runs now."""
        return self._running

    def enter(self, category: str) -> None:
        """Books the time from now on under `category`."""
        now = time.perf_counter()
        self._now[self._running] += now - self._since
        self._running, self._since = category, now

    @contextmanager
    def book(self, category: str) -> Iterator[None]:
        """Books a block to `category` and goes back to what ran before."""
        before = self._running
        self.enter(category)
        try:
            yield
        finally:
            self.enter(before)

    def restarted(self, step: int) -> None:
        """The run continues from checkpoint `step` (0: from nothing); what came after it was lost."""
        self._starts[-1] = self._starts[-1]._replace(step=step)
        base = self._marks.get(step, dict.fromkeys(CATEGORIES, 0.0))
        lost = sum(self._earlier.values()) - sum(base.values())
        self._earlier = base | {"lost work": base["lost work"] + lost}
        self._marks = {s: totals for s, totals in self._marks.items() if s <= step}

    def mark(self, step: int) -> None:
        """Marks that checkpoint `step` was taken: time up to now is safe once it is committed."""
        self._marks[step] = self.totals()
        # A restart continues from one of the last checkpoints; marks of older ones are of no use.
        self._marks = dict(sorted(self._marks.items())[-20:])
        self.write()

    def totals(self) -> dict[str, float]:
        """Seconds per category up to now."""
        self.enter(self._running)
        return {name: self._earlier[name] + self._now[name] for name in CATEGORIES}

    def write(self) -> None:
        """Stores the totals, replacing the file in one move."""
        # A run folder that was taken away must not be made anew.
        if not self._file.parent.is_dir():
            return
        self._starts[-1] = self._starts[-1]._replace(ended=time.time())
        text = json.dumps({"totals": self.totals(), "marks": self._marks, "starts": self._starts}, indent=1)
        try:
            store(self._file, text)
        # As of the metrics: on a full disk a run goes on without them.
        except UserError as error:
            if not self._failed:
                self._say(f"{error}; the run goes on")
            self._failed = True

    def describe(self) -> str:
        """One line: seconds and share of every category that has any."""
        totals = self.totals()
        whole = sum(totals.values()) or 1.0
        parts = (f"{n} {s:.1f} s ({s / whole:.0%})" for n, s in totals.items() if s >= 0.05)
        return f"time: {', '.join(parts)}; {whole:.1f} s in all"
