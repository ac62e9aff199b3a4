"""A sweep's runs as tasks of its workers: each alone, or those that can be in one group."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ivjax.errors import UserError
from ivjax.sweep.book import Book
from ivjax.sweep.plan import Planned
from ivjax.sweep.trials import Trial
from ivjax.sweep.work import Task


@dataclass(frozen=True)
class Manner:
    """How runs are trained: `jobs` at a time, or `together` on one device; `measure` times one alone as well.

    `force` starts even those that will not fit.
    """

    jobs: int = 1
    together: bool = False
    measure: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UserError(f"--jobs {self.jobs}; it must be at least 1")
        if self.measure and not self.together:
            raise UserError("--measure compares a run alone with runs trained together; add --together")


def tasks_of(book: Book, trials: Sequence[Trial], plans: Sequence[Planned], manner: Manner) -> list[Task]:
    """What the workers are to do: one run each, or a group. Those that compile something new come first."""
    pairs = list(zip(trials, plans, strict=True))
    bundles = [[pair] for pair in pairs]
    if manner.together:
        alike: dict[str, list[tuple[Trial, Planned]]] = {}
        for trial, plan in pairs:
            alike.setdefault(plan.group or trial.name, []).append((trial, plan))
        bundles = [part for bundle in alike.values() for part in _parts(bundle)]
    tasks = [_task(book, bundle, manner) for bundle in bundles]
    first = {task["key"]: task for task in reversed(tasks)}
    return sorted(tasks, key=lambda task: task is not first[task["key"]])


def _parts(bundle: Sequence[tuple[Trial, Planned]]) -> list[list[tuple[Trial, Planned]]]:
    """A bundle cut into as many runs as fit into the memory at once."""
    plan = bundle[0][1]
    room = (plan.limit - plan.size + plan.per_run) // max(plan.per_run, 1)
    size = max(min(room, len(bundle)), 1)
    return [list(bundle[first : first + size]) for first in range(0, len(bundle), size)]


def _task(book: Book, bundle: Sequence[tuple[Trial, Planned]], manner: Manner) -> Task:
    trials, plan = [trial for trial, _ in bundle], bundle[0][1]
    runs = [place_of(book, trial) for trial in trials]
    task = {"root": str(book.folder), "config": book.config, "runs": runs, "traced": plan.traced}
    if len(runs) == 1:
        return task | {"task": "train", "key": plan.key, "log": f"{runs[0]['folder']}/log.txt"}
    names = "\n".join(trial.name for trial in trials)
    folder = book.folder / "groups" / hashlib.sha256(names.encode()).hexdigest()[:8]
    seeds = ".seeds" if len({trial.swept.get("seed") for trial in trials}) > 1 else ""
    return task | {
        "task": "group",
        "key": f"{plan.key}.{len(runs)}{seeds}",
        "folder": str(folder),
        "log": str(folder / "log.txt"),
        "measure": manner.measure,
    }


def place_of(book: Book, trial: Trial) -> dict[str, Any]:
    """A run as workers are told of it."""
    return {"name": trial.name, "overrides": trial.overrides, "folder": str(book.run_folder(trial))}
