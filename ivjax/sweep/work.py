"""What a worker is asked: to plan the runs, to train one, to train several as one. JSON in, JSON out."""

import dataclasses
import shutil
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.files import load_experiment, with_overrides
from ivjax.sweep import histories
from ivjax.sweep.compiles import counted, share_cache
from ivjax.sweep.plan import plan
from ivjax.sweep.together import Group, Member, group_of
from ivjax.train.loop import train_run
from ivjax.train.session import Run

Task = Mapping[str, Any]
Reply = dict[str, Any]
Say = Callable[[str], None]


def perform(task: Task, say: Say) -> Reply:
    """Does a task. The reply's `status` is done, stopped (by request) or failed, with a sentence as `why`."""
    try:
        return _TASKS[task["task"]](task, say)
    except UserError as error:
        return {"status": "failed", "why": str(error)}
    except Exception as error:  # one failed run does not stop the rest
        say(traceback.format_exc())
        first = (str(error).splitlines() or [""])[0]
        return {"status": "failed", "why": f"{type(error).__name__}: {first}"}


def _plan(task: Task, say: Say) -> Reply:
    original = load_experiment(task["config"])
    experiments = [with_overrides(original, run["overrides"]) for run in task["runs"]]
    plans = [dataclasses.asdict(planned) for planned in plan(experiments, task["swept"], task["jobs"])]
    return {"status": "done", "plans": plans, "platform": jax.default_backend()}


def _train(task: Task, say: Say) -> Reply:
    (run,) = task["runs"]
    folder, experiment = Path(run["folder"]), _experiment(task, run)
    _trained(Run(experiment, folder, tuple(task["traced"])), task, say)
    return {"status": "done" if _finished(folder, experiment) else "stopped"}


def _train_group(task: Task, say: Say) -> Reply:
    members = [Member(_experiment(task, run), Path(run["folder"])) for run in task["runs"]]
    group = group_of(members, Path(task["folder"]), task["traced"])
    _trained(group, task, say)
    if not all([_finished(member.folder, member.experiment) for member in members]):
        return {"status": "stopped"}
    reply: Reply = {"status": "done", "together": histories.seconds(group.folder)}
    return reply | (_measure(group, task, say) if task["measure"] else {})


def _measure(group: Group, task: Task, say: Say) -> Reply:
    """The first run of a group, trained alone: its time, and how far its losses are from the group's."""
    alone, member = Path(task["root"]) / "measure" / group.folder.name, group.members[0]
    shutil.rmtree(alone, ignore_errors=True)
    single = Run(group.experiment, alone, group.traced)
    cache = Path(task["root"]) / "compiled"
    train_run(single, say, jax.local_devices()[:1], counted(cache, f"{task['key']}.alone", alone))
    here, there = (
        histories.read_history(folder, "", {}, member.experiment).metric("loss").values
        for folder in (alone, member.folder)
    )
    if len(here) != len(there):
        return {}
    return {"alone": histories.seconds(alone), "apart": float(np.max(np.abs(here - there) / np.abs(there)))}


def _trained(run: Run, task: Task, say: Say) -> None:
    cache = Path(task["root"]) / "compiled"
    share_cache(cache)
    devices = jax.local_devices()[:1] if run.runs > 1 else None
    train_run(run, say, devices, counted(cache, task["key"], run.folder))


def _experiment(task: Task, run: Mapping[str, Any]) -> Experiment:
    return load_experiment(task["config"], run["overrides"])


def _finished(folder: Path, experiment: Experiment) -> bool:
    """Whether a run is at its end; then it gets its result."""
    history = histories.read_history(folder, folder.name, {}, experiment)
    if history.finished:
        histories.finish(folder, history)
    return history.finished


_TASKS: Mapping[str, Callable[[Task, Say], Reply]] = {"plan": _plan, "train": _train, "group": _train_group}
