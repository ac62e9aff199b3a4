"""The objective of an experiment: its stage, how wide its parameters start, how fast each of them learns."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import jax

from ivjax.errors import UserError, nearest
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.patterns import covers
from ivjax.experiment.run_options import Starts, Trains
from ivjax.models.costs import with_backward
from ivjax.ops.cut import Params
from ivjax.ops.trees import map_with_path, paths_of
from ivjax.stages.objective import Medium, Objective, ParameterGroup

E = TypeVar("E", Trains, Starts)


def objective_of(experiment: Experiment) -> Objective:
    """Builds the stage of an experiment, and applies `starts` and `trains` to its parameters."""
    objective = experiment.stage.build(experiment.compute)
    if not experiment.trains and not experiment.starts:
        return objective
    # Shapes alone: nothing is drawn to learn the names.
    shapes = dict(paths_of(jax.eval_shape(lambda: objective.init(jax.random.key(0)))))
    paths = list(shapes)
    if experiment.starts:
        objective = dataclasses.replace(objective, init=_widened(objective.init, experiment.starts, paths))
    if not experiment.trains:
        return objective
    rates = rates_of(experiment.trains, paths)
    _check_trained(experiment.trains, paths, objective)
    sizes = {path: shape.size for path, shape in shapes.items()}
    # By the rate and not by all frozen paths as patterns: that would compare every path with every other.
    trained = {
        path: 0 if rates[path] == 0.0 or covers(objective.frozen, path) else size
        for path, size in sizes.items()
    }
    return dataclasses.replace(
        objective,
        frozen=(*objective.frozen, *(path for path, rate in rates.items() if rate == 0.0)),
        media={name: _with_frozen(medium, sizes, trained) for name, medium in objective.media.items()},
        # Rates of 1 are left out, so that an experiment without others compiles the same
        # program as without `trains`.
        rates={path: rate for path, rate in rates.items() if rate not in (0.0, 1.0)},
    )


def _with_frozen(medium: Medium, sizes: Mapping[str, int], trained: Mapping[str, int]) -> Medium:
    """Returns the medium with the FLOPs that are left where layers are frozen.

    `sizes` and `trained` are the numbers of elements of each parameter, and of those that learn.
    """
    groups = {group for read in medium.modules.values() for group in read}
    shares = {group: _within(group, trained) / max(1, _within(group, sizes)) for group in groups}
    flops = dict(medium.flops)
    for layer, (own, *read) in medium.modules.items():
        times = with_backward({layer: 1.0})[layer]
        # One part is the forward pass, one the gradient of the kernels, and the third, which pixels have not,
        # that of the inputs. Kernels need theirs where they learn: LoRA's are few. Inputs need theirs where
        # something learns here or in what is read.
        inputs = (times - 2) * any(shares[group] for group in (own, *read))
        flops[layer] *= (1 + shares[own] + inputs) / times
    return dataclasses.replace(medium, flops=flops)


def _within(group: ParameterGroup, sizes: Mapping[str, int]) -> int:
    return sum(count for path, count in sizes.items() if group.covers(path))


def rates_of(trains: Sequence[Trains], paths: Iterable[str]) -> dict[str, float]:
    """Returns the learning-rate factor of each path: that of the first pattern which covers it, or 1.

    A pattern that covers no path is an error.
    """
    paths = list(paths)
    _check_patterns("trains", [entry.pattern for entry in trains], paths)
    return {path: 1.0 if entry is None else entry.rate for path, entry in _entries(trains, paths).items()}


def _widened(
    init: Callable[[jax.Array], Params], starts: Sequence[Starts], paths: Sequence[str]
) -> Callable[[jax.Array], Params]:
    """Returns `init` with its draws multiplied as `starts` says."""
    _check_patterns("starts", [entry.pattern for entry in starts], paths)
    times = {path: entry.times for path, entry in _entries(starts, paths).items() if entry is not None}

    def drawn(key: jax.Array) -> Params:
        return map_with_path(lambda path, leaf: leaf * times.get(path, 1.0), init(key))

    return drawn


def _check_patterns(option: str, patterns: Sequence[str], paths: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(covers([pattern], path) for path in paths):
            hint = nearest(pattern, _branches(paths), cutoff=0.3)
            raise UserError(f"{option}: no parameter's path matches {pattern!r}{hint}")


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


def _entries(entries: Sequence[E], paths: Iterable[str]) -> dict[str, E | None]:
    """The first entry that covers each path, which decides."""
    return {path: next((entry for entry in entries if covers([entry.pattern], path)), None) for path in paths}


def _branches(paths: Iterable[str]) -> set[str]:
    """The paths, and every branch that they lie on."""
    names = [path.split("/") for path in paths]
    return {"/".join(parts[:depth]) for parts in names for depth in range(1, len(parts) + 1)}
