"""Progressive runs: the phases of an experiment, each a run of its own that starts from the one before."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from ivjax.experiment.experiment import Experiment
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.run_folder import checkpoint_steps, phase_folder
from ivjax.experiment.storing import store_experiment
from ivjax.train.metrics import open_workdir


class Part(NamedTuple):
    """A run that an experiment is made of: its only one, or one of its phases."""

    experiment: Experiment
    folder: Path


def phases_of(experiment: Experiment, folder: Path) -> list[Part]:
    """Returns the phases of an experiment as runs; each starts from the checkpoint of the one before."""
    parts: list[Part] = []
    whole = dataclasses.replace(experiment, phases=())
    for number, phase in enumerate(experiment.phases, start=1):
        run = apply_overrides(dataclasses.replace(whole, steps=phase.steps), phase.changes)
        if parts:
            # Later files count first: the phase before gives what it holds, the files what it does not, such
            # as teachers, which no run saves.
            run = dataclasses.replace(run, init_from=(*run.init_from, str(parts[-1].folder)))
        parts.append(Part(run, phase_folder(folder, number, phase.name)))
    return parts


def unfinished_parts(experiment: Experiment, folder: Path, say: Callable[[str], None]) -> Iterator[Part]:
    """Yields the runs that are still to be trained, in order: the experiment itself, or its phases."""
    if not experiment.phases:
        yield Part(experiment, folder)
        return
    parts = phases_of(experiment, folder)  # raises on a wrong change before anything is trained
    open_workdir(folder)
    if jax.process_index() == 0:
        store_experiment(experiment, folder)
    for number, part in enumerate(parts, start=1):
        name = f"phase {number} of {len(parts)}, {experiment.phases[number - 1].name}"
        if max(checkpoint_steps(part.folder), default=0) >= part.experiment.steps:
            say(f"{name}: finished before")
            continue
        say(f"{name}: {part.experiment.steps} steps")
        yield part
