"""Where the time of a run went, over all its starts, processes and phases, as one table."""

import datetime
from pathlib import Path
from typing import NamedTuple

from ivjax.columns import aligned
from ivjax.errors import UserError
from ivjax.experiment.run_folder import PHASES
from ivjax.train.ledger import CATEGORIES, Start, StoredTimes, ledger_file, read_times


class RunTimes(NamedTuple):
    """The times of a run.

    Attributes:
        processes: Seconds by category, for each process of the job.
        starts: The starts of the first process, in order.
    """

    processes: dict[int, dict[str, float]]
    starts: list[Start]

    @property
    def between(self) -> float:
        """Seconds since the first start in which no process ran, or left a record of it."""
        return max(self.whole - sum(self.processes[0].values()), 0.0)

    @property
    def whole(self) -> float:
        """Seconds from the first start to the last sign of life."""
        recorded = sum(self.processes[0].values())
        # Files of older versions hold no starts.
        return max(self.starts[-1].ended - self.starts[0].began, recorded) if self.starts else recorded

    @property
    def goodput(self) -> float:
        """The share of all that time in which steps were taken that count."""
        return self.processes[0]["step"] / self.whole if self.whole else 0.0


def times_of(run: Path) -> RunTimes:
    """Returns the times of a run folder, those of its phases included."""
    places = (run, *sorted((run / PHASES).glob("*")))
    folders = [folder for folder in places if ledger_file(folder, 0).exists()]
    if not folders:
        raise UserError(f"{run} holds no ledger.json; is it a run folder, and has the run taken a step?")
    processes: dict[int, dict[str, float]] = {}
    starts: list[Start] = []
    for folder in folders:
        for process, file in _ledgers(folder).items():
            stored = _read(file)
            sums = processes.setdefault(process, dict.fromkeys(CATEGORIES, 0.0))
            for name, seconds in stored.totals.items():
                sums[name] += seconds
            starts += stored.starts if process == 0 else []
    return RunTimes(dict(sorted(processes.items())), sorted(starts))


def table(times: RunTimes) -> list[str]:
    """Returns the lines of the table: categories, their shares, and the spread over processes."""
    several = len(times.processes) > 1
    rows = [["", "seconds", "share", *(["mean of processes", "most"] if several else [])]]
    for name in CATEGORIES:
        rows.append([name, *_cells(times.processes[0][name], times.whole)])
        if several:
            rows[-1] += _spread({process: sums[name] for process, sums in times.processes.items()})
    rows.append(["between starts", *_cells(times.between, times.whole)])
    rows.append(["all", *_cells(times.whole, times.whole)])
    lines = aligned(rows, str.rjust)
    if times.starts:
        first, last = _clock(times.starts[0].began), _clock(times.starts[-1].ended)
        steps = ", ".join(str(start.step) for start in times.starts[-10:])
        lines.append(f"{len(times.starts)} starts from {first} to {last}; the last from step {steps}")
    lines.append(f"goodput {times.goodput:.1%}: steps that count, of all the time since the first start")
    return lines


def _ledgers(folder: Path) -> dict[int, Path]:
    numbered = {file.name.split(".")[1]: file for file in folder.glob("ledger.*.json")}
    others = {int(number): file for number, file in numbered.items() if number.isdecimal()}
    return {0: ledger_file(folder, 0)} | others


def _read(file: Path) -> StoredTimes:
    try:
        return read_times(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); the run's next start sets it aside") from None


def _cells(seconds: float, whole: float) -> list[str]:
    return [f"{seconds:.1f}", f"{seconds / whole if whole else 0:.1%}"]


def _spread(seconds: dict[int, float]) -> list[str]:
    most = max(seconds, key=lambda process: seconds[process])
    return [f"{sum(seconds.values()) / len(seconds):.1f}", f"{seconds[most]:.1f} (process {most})"]


def _clock(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"
