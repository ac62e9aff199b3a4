"""The objective of an experiment: its stage, and what `trains` says about how fast each parameter learns."""

import dataclasses
from collections.abc import Iterable, Sequence

import jax

from ivjax.errors import UserError, nearest
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.patterns import covers
from ivjax.experiment.run_options import Trains
from ivjax.ops.trees import paths_of
from ivjax.stages.objective import Objective


def objective_of(experiment: Experiment) -> Objective:
    """Builds the stage of an experiment, and applies `trains` to its parameters."""
    objective = experiment.stage.build(experiment.compute)
    if not experiment.trains:
        return objective
    # Shapes alone: nothing is drawn to learn the names.
    paths = [path for path, _ in paths_of(jax.eval_shape(lambda: objective.init(jax.random.key(0))))]
    rates = rates_of(experiment.trains, paths)
    _check_trained(experiment.trains, paths, objective)
    return dataclasses.replace(
        objective,
        frozen=(*objective.frozen, *(path for path, rate in rates.items() if rate == 0.0)),
        # Rates of 1 are left out, so that an experiment without others compiles the same
        # program as without `trains`.
        rates={path: rate for path, rate in rates.items() if rate not in (0.0, 1.0)},
    )


def rates_of(trains: Sequence[Trains], paths: Iterable[str]) -> dict[str, float]:
    """Returns the learning-rate factor of each path: that of the first pattern which covers it, or 1.

    A pattern that covers no path is an error.
    """
    paths = list(paths)
    for entry in trains:
        if not any(covers([entry.pattern], path) for path in paths):
            hint = nearest(entry.pattern, _branches(paths), cutoff=0.3)
            raise UserError(f"trains: no parameter's path matches {entry.pattern!r}{hint}")
    return {path: 1.0 if entry is None else entry.rate for path, entry in _entries(trains, paths).items()}


def _check_trained(trains: Sequence[Trains], paths: Sequence[str], objective: Objective) -> None:
    """Raises if an entry gives a rate, and the stage freezes everything that the entry decides."""
    entries = _entries(trains, paths)
    for entry in trains:
        decided = [path for path in paths if entries[path] is entry]
        # Of a broad pattern such as `*`, what the stage trains has the rate; teachers stay frozen.
        if entry.rate and decided and all(covers(objective.frozen, path) for path in decided):
            option = f"set {objective.unfreeze}, or " if objective.unfreeze else ""
            raise UserError(
                f"trains: {entry.pattern!r} has rate={entry.rate}, but the stage freezes all of it; "
                f"{option}remove the entry"
            )


def _entries(trains: Sequence[Trains], paths: Iterable[str]) -> dict[str, Trains | None]:
    """The first entry that covers each path, which decides."""
    return {path: next((entry for entry in trains if covers([entry.pattern], path)), None) for path in paths}


def _branches(paths: Iterable[str]) -> set[str]:
    """The paths, and every branch that they lie on."""
    names = [path.split("/") for path in paths]
    return {"/".join(parts[:depth]) for parts in names for depth in range(1, len(parts) + 1)}
