"""Progressive runs: the phases of an experiment, each a run of its own that starts from the one before."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from ivjax.experiment.buckets import known_as
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.run_folder import checkpoint_steps, phase_folder
from ivjax.experiment.storing import store_experiment
from ivjax.progress import Say
from ivjax.train.metrics import open_workdir


class TrainingRun(NamedTuple):
    """The training in one run folder: a whole experiment, or one of its phases."""

    experiment: Experiment
    folder: Path


def phases_of(experiment: Experiment, folder: Path) -> list[TrainingRun]:
    """Returns the phases of an experiment as runs; each starts from the checkpoint of the one before."""
    runs: list[TrainingRun] = []
    whole = dataclasses.replace(experiment, phases=())
    for number, phase in enumerate(experiment.phases, start=1):
        changed = apply_overrides(dataclasses.replace(whole, steps=phase.steps), phase.changes)
        if runs:
            # Later files count first: the phase before gives what it holds, the files what it does not, such
            # as teachers, which no run saves.
            changed = dataclasses.replace(changed, init_from=(*changed.init_from, known_as(runs[-1].folder)))
        runs.append(TrainingRun(changed, phase_folder(folder, number, phase.name)))
    return runs


def unfinished_runs(experiment: Experiment, folder: Path, say: Say) -> Iterator[TrainingRun]:
    """Yields the runs that are still to be trained, in order: the experiment itself, or its phases."""
    if not experiment.phases:
        yield TrainingRun(experiment, folder)
        return
    runs = phases_of(experiment, folder)  # raises on a wrong change before anything is trained
    open_workdir(folder)
    if jax.process_index() == 0:
        store_experiment(experiment, folder)
    for number, run in enumerate(runs, start=1):
        name = f"phase {number} of {len(runs)}, {experiment.phases[number - 1].name}"
        if max(checkpoint_steps(run.folder), default=0) >= run.experiment.steps:
            say(f"{name}: finished before")
            continue
        say(f"{name}: {run.experiment.steps} steps")
        yield run
