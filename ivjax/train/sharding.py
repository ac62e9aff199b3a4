"""The place of every parameter on the mesh, by the objective's rules; moments and EMA follow it."""

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ivjax.errors import UserError
from ivjax.experiment.rules import Axes, Rules, rule_of
from ivjax.ops.trees import map_with_path, paths_of
from ivjax.stages.objective import Objective
from ivjax.train.step import State

_PARAMETERS = ("params", "frozen")  # the branches of a state that hold parameters; the rest follows them


def spec_of(path: str, shape: tuple[int, ...], mesh: Mesh, rules: Rules) -> PartitionSpec:
    """The spec of one parameter. A dimension that its axis does not divide stays whole."""
    axes = _axes(path, shape, rules)
    split = [
        # jax refuses uneven shards.
        axis if axis and mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(axes, shape, strict=False)
    ]
    # jax holds P('fsdp') and P('fsdp', None) for different, and would compile a step for each.
    while split and split[-1] is None:
        split.pop()
    return PartitionSpec(*split)


def _axes(path: str, shape: tuple[int, ...], rules: Rules) -> Axes:
    rule = rule_of(rules, path)
    if len(rule.axes) > len(shape):
        raise UserError(
            f"rule {rule.pattern!r} of {rule.module} names {len(rule.axes)} axes and {path} is {shape}; "
            "name at most one axis per dimension"
        )
    return rule.axes


def shardings_of(params: Any, mesh: Mesh, rules: Rules) -> Any:
    """A NamedSharding for every parameter (arrays or shapes) of a tree."""
    return map_with_path(lambda p, leaf: NamedSharding(mesh, spec_of(p, leaf.shape, mesh, rules)), params)


def state_shardings(state: State, mesh: Mesh, rules: Rules) -> Any:
    """A NamedSharding for every leaf of a state: moments and EMA lie where their parameter does."""
    owners = _parameter_paths(state)

    def sharding(path: str, leaf: Any) -> NamedSharding:
        parameter = owners[path]
        spec = PartitionSpec() if parameter is None else spec_of(parameter, leaf.shape, mesh, rules)
        return NamedSharding(mesh, spec)

    return map_with_path(sharding, dict(state))


def _parameter_paths(state: State) -> dict[str, str | None]:
    """For every leaf of a state, the path of the parameter that it belongs to: the longest end of its own
    path that is one. None for counters."""
    parameters = {path for branch in _PARAMETERS for path, _ in paths_of(state.get(branch, {}))}

    def owner(path: str) -> str | None:
        names = path.split("/")
        # Moments and averages repeat the parameter's path below one of their own, such as moments/mu/.
        ends = ("/".join(names[first:]) for first in range(1, len(names)))
        return next((end for end in ends if end in parameters), None)

    return {path: owner(path) for path, _ in paths_of(dict(state))}


def undivided(state: State, mesh: Mesh, rules: Rules) -> Iterator[tuple[str, int, str]]:
    """Leaves with a dimension that a rule would split and its axis does not divide: path, size, axis."""
    owners = _parameter_paths(state)
    for path, leaf in paths_of(dict(state)):
        if (parameter := owners[path]) is None:
            continue
        for axis, size in zip(_axes(parameter, leaf.shape, rules), leaf.shape, strict=False):
            if axis and size % mesh.shape[axis]:
                yield path, size, axis


def describe(state: State, mesh: Mesh, objective: Objective) -> Iterator[str]:
    """The resolved table, then the bytes of everything.

    It has shape, spec, bytes per device, decay, depth and bounds of every parameter of a state, and what else
    the objective says of how it is trained.
    """
    sums: dict[str, int] = {}
    for (path, leaf), sharding in zip(
        paths_of(dict(state)), jax.tree.leaves(state_shardings(state, mesh, objective.rules)), strict=True
    ):
        spec = sharding.spec
        size = leaf.size * leaf.dtype.itemsize // math.prod(mesh.shape[axis] for axis in spec if axis)
        kind, _, name = path.partition("/")
        sums[kind] = sums.get(kind, 0) + size
        if kind in _PARAMETERS:
            shape, rule = "x".join(map(str, leaf.shape)) or "scalar", rule_of(objective.rules, name)
            decay = "frozen" if kind == "frozen" else "decays" if rule.decays else "-"
            place = f"{_text(spec):<24} {_mebibytes(size)}"
            bounds = "-" if rule.bounds is None else "{:g}..{:g}".format(*rule.bounds)
            more = "" if kind == "frozen" else ", ".join(_exceptions(objective, name))
            line = f"{name:<50} {shape:>16}  {place}  {decay:<6} {rule.depth:<7} {bounds:<9} {more}"
            yield line.rstrip()
    axes = ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
    yield f"bytes per device on mesh {axes}:"
    for kind, size in [*sums.items(), ("all", sum(sums.values()))]:
        yield f"  {kind:<12} {_mebibytes(size)}"


def _exceptions(objective: Objective, path: str) -> Iterator[str]:
    """Yields the differences between the training of a parameter and that of most."""
    if path in objective.rates:
        yield f"rate {objective.rates[path]:g}"
    if layers := objective.frozen_layers_of(path):
        yield f"first {layers} layers frozen"
    if path in objective.running:
        yield "running statistic"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:10.3f} MiB"


def _text(spec: PartitionSpec) -> str:
    return ", ".join(str(axis) if axis else "-" for axis in spec) or "replicated"


def replicate(mesh: Mesh) -> NamedSharding:
    """The sharding of a value that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def abstract(tree: Any, shardings: Any) -> Any:
    """Shapes of `tree` that carry `shardings`: what a restore aims at."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)
