"""A ledger of the time of a run, over all its restarts."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ivjax.drafts import store

CATEGORIES = ("compile", "restore", "data wait", "step", "checkpoint", "eval", "lost work")


class TimeLedger:
    """Books every second to one category; `lost work` is what a kill threw away.

    At any moment exactly one category runs. The totals are kept in `ledger.json` of the run folder,
    with a mark at each checkpoint: after a restart from it, later seconds become lost work.
    """

    def __init__(self, folder: Path | None):
        self._file = folder / "ledger.json" if folder else None
        self._now = dict.fromkeys(CATEGORIES, 0.0)
        self._earlier = dict(self._now)
        self._marks: dict[int, dict[str, float]] = {}
        if self._file and self._file.is_file():
            stored = json.loads(self._file.read_text())
            self._earlier |= stored["totals"]
            self._marks = {int(step): totals for step, totals in stored["marks"].items()}
        # All that comes before the first batch counts as compiling, except what is booked otherwise.
        self._running = "compile"
        self._since = time.perf_counter()

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
        if self._file is None:
            return
        text = json.dumps({"totals": self.totals(), "marks": self._marks}, indent=1)
        store(self._file, text)

    def describe(self) -> str:
        """One line: seconds and share of every category that has any."""
        totals = self.totals()
        whole = sum(totals.values()) or 1.0
        parts = (f"{n} {s:.1f} s ({s / whole:.0%})" for n, s in totals.items() if s >= 0.05)
        return f"time: {', '.join(parts)}; {whole:.1f} s in all"
