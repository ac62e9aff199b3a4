"""A sweep from its arguments to its table: plan, train what is not trained yet, compare."""

import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.progress import Progress
from ivjax.sweep import histories
from ivjax.sweep.book import Book
from ivjax.sweep.compiles import compiled_in
from ivjax.sweep.plan import Planned
from ivjax.sweep.pool import Pool
from ivjax.sweep.results import Choice, write_results
from ivjax.sweep.tasks import Manner, place_of, tasks_of
from ivjax.sweep.timing import describe_group
from ivjax.sweep.trials import Trial
from ivjax.sweep.work import Reply, Task

Say = Callable[[str], None]


def sweep(book: Book, manner: Manner, choice: Choice, say: Say) -> int:
    """Trains the runs that have no result yet, and compares all; 1 if one did not end, 130 on request."""
    book.check()
    trials = book.trials()
    book.experiments()  # each override is checked before anything is written
    book.write()
    with book.locked(), Pool(manner.jobs).listening() as pool:
        todo = [trial for trial in trials if not histories.is_finished(book.run_folder(trial))]
        say(f"{len(trials)} runs in {book.folder}, {len(trials) - len(todo)} of them finished before")
        if todo:
            plans = _plans(book, todo, manner, pool)
            _refuse(todo, plans, manner.force)
            _train(tasks_of(book, todo, plans, manner), pool, say)
        if pool.stopping:
            say("stopped by request; the same command continues")
            return 130
    say(report(book, choice))
    return int(not all(history.finished for history in book.histories()))


def preview(book: Book, manner: Manner) -> str:
    """What a sweep would do; nothing is trained, and nothing is written."""
    book.check()
    trials = book.trials()
    with Pool(1).listening() as pool:
        plans = _plans(book, trials, manner, pool)
    tasks = tasks_of(book, trials, plans, manner)
    lines = []
    for trial, plan in zip(trials, plans, strict=True):
        need = plan.problem or f"{plan.size / 2**20:.1f} MiB of {plan.limit / 2**20:.0f} on each device"
        lines.append(f"{trial.name}\n  {' '.join(trial.overrides) or 'no overrides'}\n  {need}")
    groups = [task for task in tasks if task["task"] == "group"]
    lines += [f"together: {', '.join(run['name'] for run in group['runs'])}" for group in groups]
    lines.append(f"{len(trials)} runs, {len({task['key'] for task in tasks})} distinct steps to compile")
    return "\n".join(lines)


def report(book: Book, choice: Choice) -> str:
    """Writes table, CSV, plots and times of what there is; gives the table, and how much was compiled."""
    table = write_results(book.histories(), choice, book.folder)
    places = [
        *(book.run_folder(trial) for trial in book.trials()),
        *sorted((book.folder / "groups").glob("*")),
    ]
    timed = [*places, *sorted((book.folder / "measure").glob("*"))]
    seconds = {str(place.relative_to(book.folder)): histories.seconds(place) for place in timed}
    store(book.folder / "timing.json", json.dumps(seconds, indent=1) + "\n")
    steps = compiled_in(places)
    if not steps.distinct:  # trained elsewhere
        return table
    many, times = "s" * (steps.distinct != 1), "s" * (steps.compiled != 1)
    return (
        f"{table}\n{len(book.runs)} runs, {steps.distinct} distinct step{many}, "
        f"compiled {steps.compiled} time{times}"
    )


def _plans(book: Book, trials: Sequence[Trial], manner: Manner, pool: Pool) -> list[Planned]:
    """Asks a worker: the process that holds the devices must not be this one."""
    swept = list(dict.fromkeys(path for trial in book.trials() for path in trial.swept))
    runs = [place_of(book, trial) for trial in trials]
    with tempfile.TemporaryDirectory() as scratch:
        reply = pool.ask(
            {"task": "plan", "config": book.config, "runs": runs, "swept": swept}
            | {"jobs": manner.jobs, "log": str(Path(scratch) / "plan.txt")}
        )
    if reply["status"] == "stopped":
        raise KeyboardInterrupt
    if reply["status"] == "failed":
        raise UserError(f"the runs cannot be planned: {reply['why']}")
    if manner.jobs > 1 and reply["platform"] != "cpu":
        raise UserError(f"--jobs {manner.jobs}: only CPUs are shared by several processes; use --together")
    return [Planned(**{**found, "traced": tuple(found["traced"])}) for found in reply["plans"]]


def _refuse(trials: Sequence[Trial], plans: Sequence[Planned], force: bool) -> None:
    """Raises if a run cannot start, before any of them has."""
    faults = [f"{t.name}: {plan.problem}" for t, plan in zip(trials, plans, strict=True) if plan.problem]
    if faults and not force:
        more = f"; and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise UserError(
            f"{len(faults)} of {len(trials)} runs cannot start (--force starts all the same): "
            f"{'; '.join(faults[:4])}{more}"
        )


def _train(tasks: Sequence[Task], pool: Pool, say: Say) -> None:
    for run in itertools.chain.from_iterable(task["runs"] for task in tasks):
        histories.forget_failure(Path(run["folder"]))
    for task in tasks:
        Path(task["log"]).parent.mkdir(parents=True, exist_ok=True)
    with Progress(sum(len(task["runs"]) for task in tasks), "runs", say) as progress:

        def told(task: Task, reply: Reply) -> None:
            if reply["status"] == "stopped":
                return
            for run in task["runs"]:
                if reply["status"] == "failed":
                    histories.note_failure(Path(run["folder"]), reply["why"])
                say(f"{run['name']}: {reply.get('why', 'done')}")
            for line in describe_group(len(task["runs"]), reply):
                say(line)
            progress.advance(len(task["runs"]))

        pool.work(tasks, told)
