"""A sweep from its arguments to its table: check the runs, train those that have no result, compare all."""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.progress import Progress, Say
from ivjax.sweep import histories
from ivjax.sweep.pool import Pool
from ivjax.sweep.preflight import Preflight
from ivjax.sweep.requests import Reply, Request
from ivjax.sweep.results import Ranking, write_results
from ivjax.sweep.shared_compilation import compile_counts
from ivjax.sweep.sweep_folder import SweepFolder
from ivjax.sweep.trials import Trial


@dataclass(frozen=True)
class SweepOptions:
    """Options of training the runs.

    Attributes:
        jobs: How many at a time, each in a process of its own.
        force: Whether to start runs that will not fit into the memory.
    """

    jobs: int = 1
    force: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UserError(f"--jobs {self.jobs}; it must be at least 1")


def run_sweep(sweep: SweepFolder, options: SweepOptions, ranking: Ranking, say: Say) -> int:
    """Trains the runs that have no result yet, and compares all.

    Returns the exit status: 1 if a run failed, 130 if the sweep was asked to stop.
    """
    sweep.check()
    trials = sweep.trials()
    sweep.experiments()  # raises on a wrong override before anything is written
    sweep.write()
    # The lock comes first: a second sweep must not start workers that take the devices of the first.
    with sweep.locked(), Pool(options.jobs).listening() as pool:
        # Looked up inside the lock, because another sweep may have finished some of them just before.
        todo = [trial for trial in trials if not histories.is_finished(sweep.run_folder(trial))]
        say(f"{len(trials)} runs in {sweep.folder}, {len(trials) - len(todo)} of them finished before")
        if todo:
            checks = _check_runs(sweep, todo, options, pool)
            _refuse(todo, checks, options.force)
            _train(_train_requests(sweep, todo, checks), pool, say)
        if pool.stopping:
            say("stopped by request; the same command continues")
            # The status of a shell after Ctrl-C, so that scripts around a sweep stop too.
            return 130
    say(report(sweep, ranking))
    return int(not all(history.finished for history in sweep.histories()))


def preview(sweep: SweepFolder, options: SweepOptions) -> str:
    """Text that says what a sweep would do; nothing is trained, and nothing is written."""
    sweep.check()
    trials = sweep.trials()
    with Pool(1).listening() as pool:
        checks = _check_runs(sweep, trials, options, pool)
    lines = []
    for trial, check in zip(trials, checks, strict=True):
        need = check.problem or f"{check.size / 2**20:.1f} MiB of {check.limit / 2**20:.0f} on each device"
        lines.append(f"{trial.name}\n  {' '.join(trial.overrides) or 'no overrides'}\n  {need}")
    lines.append(f"{len(trials)} runs, {len({check.key for check in checks})} distinct steps to compile")
    return "\n".join(lines)


def report(sweep: SweepFolder, ranking: Ranking) -> str:
    """Writes table, CSV, plots and times of what there is; returns the table and how much was compiled."""
    table = write_results(sweep.histories(), ranking, sweep.folder)
    folders = [sweep.run_folder(trial) for trial in sweep.trials()]
    seconds = {str(folder.relative_to(sweep.folder)): histories.seconds(folder) for folder in folders}
    store(sweep.folder / "timing.json", json.dumps(seconds, indent=1) + "\n")
    counts = compile_counts(folders)
    if not counts.distinct:  # trained on other machines
        return table
    steps, times = "s" * (counts.distinct != 1), "s" * (counts.compiled != 1)
    return (
        f"{table}\n{len(sweep.runs)} runs, {counts.distinct} distinct step{steps}, "
        f"compiled {counts.compiled} time{times}"
    )


def _train_requests(
    sweep: SweepFolder, trials: Sequence[Trial], checks: Sequence[Preflight]
) -> list[dict[str, Any]]:
    """One request for each run. Those that compile something new come first, so that others find it."""
    requests = [
        {"do": "train", "config": sweep.config, "root": str(sweep.folder), "run": _described(sweep, trial)}
        | {"key": check.key, "shared": check.shared, "log": str(sweep.run_folder(trial) / "log.txt")}
        for trial, check in zip(trials, checks, strict=True)
    ]
    # Reversed, so that of equal keys the first request of the sweep is the one that stays in the dict.
    first = {request["key"]: request for request in reversed(requests)}
    return sorted(requests, key=lambda request: request is not first[request["key"]])


def _check_runs(
    sweep: SweepFolder, trials: Sequence[Trial], options: SweepOptions, pool: Pool
) -> list[Preflight]:
    """Asks a worker, because this process must not be the one that holds the devices."""
    swept = list(dict.fromkeys(path for trial in sweep.trials() for path in trial.swept))
    runs = [_described(sweep, trial) for trial in trials]
    with tempfile.TemporaryDirectory() as scratch:
        reply = pool.ask(
            {"do": "preflight", "config": sweep.config, "runs": runs, "swept": swept}
            | {"jobs": options.jobs, "log": str(Path(scratch) / "preflight.txt")}
        )
    if reply["status"] == "stopped":
        raise KeyboardInterrupt
    if reply["status"] == "failed":
        raise UserError(f"the runs cannot be checked: {reply['why']}")
    if options.jobs > 1 and reply["platform"] != "cpu":
        raise UserError(f"--jobs {options.jobs}: only CPUs can be shared by several processes; leave it out")
    checks = [Preflight(**check) for check in reply["checks"]]
    return [dataclasses.replace(check, shared=tuple(check.shared)) for check in checks]


def _described(sweep: SweepFolder, trial: Trial) -> dict[str, Any]:
    """A run as workers are told of it."""
    return {"name": trial.name, "overrides": trial.overrides, "folder": str(sweep.run_folder(trial))}


def _refuse(trials: Sequence[Trial], checks: Sequence[Preflight], force: bool) -> None:
    """Raises if a run cannot start, before any of them has."""
    faults = [f"{t.name}: {check.problem}" for t, check in zip(trials, checks, strict=True) if check.problem]
    if faults and not force:
        more = f"; and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise UserError(
            f"{len(faults)} of {len(trials)} runs cannot start (--force starts all the same): "
            f"{'; '.join(faults[:4])}{more}"
        )


def _train(requests: Sequence[Request], pool: Pool, say: Say) -> None:
    for request in requests:
        histories.forget_failure(Path(request["run"]["folder"]))
        Path(request["log"]).parent.mkdir(parents=True, exist_ok=True)
    with Progress(len(requests), "runs", say) as progress:

        def told(request: Request, reply: Reply) -> None:
            if reply["status"] == "stopped":
                return
            run = request["run"]
            if reply["status"] == "failed":
                histories.note_failure(Path(run["folder"]), reply["why"])
            say(f"{run['name']}: {reply.get('why', 'done')}")
            progress.advance()

        pool.work(requests, told)
