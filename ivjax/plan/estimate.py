"""Estimates what one training step takes on each device, from shapes alone: nothing is compiled."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from ivjax.experiment.experiment import Experiment
from ivjax.experiment.mesh_shape import MESH_AXES, MeshShape
from ivjax.ops.trees import paths_of
from ivjax.plan import donation, partitioning
from ivjax.plan.device_costs import Costs
from ivjax.plan.lifetimes import Frame, Value
from ivjax.plan.partitioning import Dims, Splits
from ivjax.plan.walk import Walk
from ivjax.train.chips import Chip
from ivjax.train.mesh import check_batch, check_context
from ivjax.train.program import Program, program_of, step_of
from ivjax.train.sharding import undivided


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        given: bytes of the step's arguments, by kind (params, moments, frozen, batch, ...).
        temporaries: the most bytes that the step stores for itself at once.
        largest: the largest of these values: (bytes, what it is).
        host: bytes that are in host memory during the step.
        undivided: bytes of arguments that stay whole along an axis, because it does not divide them.
        because: names the largest of them and the axis.
    """

    given: Mapping[str, int]
    temporaries: int
    largest: tuple[tuple[int, str], ...]
    host: int = 0
    undivided: int = 0
    because: str = ""

    @property
    def arguments(self) -> int:
        """Bytes of all arguments of the step."""
        return sum(self.given.values())

    @property
    def total(self) -> int:
        """The most bytes alive at once."""
        return self.arguments + self.temporaries


@dataclass(frozen=True)
class Estimate:
    """The estimate of one step. Everything but `flops` is of one device.

    Attributes:
        mesh: devices by mesh axis.
        slices: groups of devices that only the data-centre network joins.
        parameters: how many parameters train.
        frozen: how many parameters do not.
        tokens: tokens of a clip that the trained encoder sees.
        row_bytes: bytes of one clip in the batch.
        memory: bytes on one device.
        flops: FLOPs of the model over all devices, by part of it.
        costs: FLOPs that are executed, with recomputation and padding of kernels; bytes read and sent.
    """

    mesh: Mapping[str, int]
    slices: int
    parameters: int
    frozen: int
    tokens: int
    row_bytes: int
    memory: Memory
    flops: Mapping[str, float]
    costs: Costs


def estimate(experiment: Experiment, chip: Chip, devices: int) -> Estimate:
    """Returns the estimate of an experiment on `devices` devices of a kind, under its own mesh."""
    mesh: Any = abstract_mesh(experiment, chip, devices)
    check_batch(experiment.batch, experiment.accumulate, mesh)
    # An abstract mesh traces for any number of devices, in a second; real ones would have to be simulated.
    with jax.sharding.use_abstract_mesh(mesh):
        program = program_of(experiment, mesh)
        for medium in program.objective.media.values():
            check_context(medium.tokens, mesh)
        batch = next(iter(program.batches.values()))
        given: dict[str, Any] = {**program.state, "frozen": program.frozen, "batch": batch}
        traced = jax.make_jaxpr(step_of(experiment))(program.state, program.frozen, batch)
    walk = Walk(mesh.shape, parameter_layouts(program), chip.platform)
    # Everything the step is given is stored before it starts, and lives as long as something reads it.
    frame = walk.frame()
    placed = {kind: placed_values(walk, frame, tree, kind) for kind, tree in given.items()}
    state = [value for kind in sorted(program.state) for value in placed[kind]]
    arguments = [*state, *placed["frozen"], *placed["batch"]]
    results = walk.run(traced.jaxpr, traced.consts, arguments, frame)
    temporaries, largest = _made(walk, frame, state, results)
    main = program.objective.main
    return Estimate(
        mesh=dict(mesh.shape),
        slices=experiment.mesh.slices,
        parameters=_count(program.state["params"]),
        frozen=_count(program.frozen),
        tokens=main.tokens,
        row_bytes=sum(row.size * row.dtype.itemsize for row in main.batch.values()),
        memory=Memory(
            {kind: sum(value.bytes for value in values) for kind, values in placed.items() if values},
            temporaries,
            largest,
            walk.costs.parked,
            *_undivided(program, mesh),
        ),
        flops={part: cost * experiment.batch for part, cost in main.flops.items()},
        costs=walk.costs,
    )


def state_bytes(experiment: Experiment, chip: Chip, devices: int) -> int:
    """Returns the bytes of parameters, moments and averages on one device, without tracing the step."""
    mesh: Any = abstract_mesh(experiment, chip, devices)
    with jax.sharding.use_abstract_mesh(mesh):
        program = program_of(experiment, mesh)
    leaves = jax.tree.leaves((program.state, program.frozen))
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def _undivided(program: Program, mesh: Any) -> tuple[int, str]:
    state = {**program.state, "frozen": program.frozen}
    leaves, found = dict(paths_of(state)), {}
    for path, size, axis in undivided(state, mesh, program.objective.rules):
        local = math.prod(leaves[path].sharding.shard_shape(leaves[path].shape))
        reason = f"{axis}={mesh.shape[axis]} does not divide the {size} of {path}"
        found[path] = local * leaves[path].dtype.itemsize, reason
    return sum(size for size, _ in found.values()), max(found.values(), default=(0, ""))[1]


def _made(
    walk: Walk, frame: Frame, state: Sequence[Value], results: Sequence[Value]
) -> tuple[int, tuple[tuple[int, str], ...]]:
    """Returns the most bytes that a step stores for itself, and the eight largest of its values then."""
    new = results[: len(state)]
    donation.reuse_places(frame, state, new)
    copies = donation.copied_first(frame, state, new) if walk.platform == "cpu" else []
    frame.step(results)
    peak, alive, _ = frame.at_peak()
    sizes = [value.bytes for value in copies]
    made = [(size, frame.labels[name]) for name, size in alive.items()]
    made += [(value.bytes, f"a copy of {value.label}") for value in copies]
    total = peak + sum(sizes) - donation.reused_bytes(alive.values(), sizes)
    return total, tuple(sorted(made, reverse=True)[:8])


def abstract_mesh(experiment: Experiment, chip: Chip, devices: int) -> AbstractMesh:
    """Returns the experiment's mesh over devices that need not exist."""
    return mesh_of(experiment.mesh, chip, devices)


def mesh_of(shape: MeshShape, chip: Chip, devices: int) -> AbstractMesh:
    """Returns the mesh of a shape over devices that need not exist; `devices` are those of a slice."""
    sizes = list(shape.resolve(devices))
    sizes[0] *= shape.slices
    # cuDNN's attention can only be traced where there is a GPU, so splash is traced for GPUs as well. Neither
    # stores attention weights, so their memory is about the same.
    platform = "cpu" if chip.platform == "cpu" else "tpu"
    device = AbstractDevice(device_kind=chip.kind, num_cores=None, platform=platform)
    # Auto as in training: under Explicit axes a product of two split dimensions is an error.
    types = (AxisType.Auto,) * len(MESH_AXES)
    return AbstractMesh(tuple(sizes), MESH_AXES, axis_types=types, abstract_device=device)


def parameter_layouts(program: Program) -> dict[Dims, tuple[Dims, Splits]]:
    """Returns shapes and splits of trained parameters, and of single layers of them, by sorted shape."""
    found: dict[Dims, tuple[Dims, Splits]] = {}
    for _, leaf in paths_of(program.state["params"]):
        splits = partitioning.of_spec(leaf.sharding.spec, leaf.ndim)
        # Gradients inside a loop over layers lack the leading dimension of the stack. A split one cannot be
        # left out.
        for skipped in range(leaf.ndim - 1):
            if not any(splits[:skipped]):
                shape = leaf.shape[skipped:]
                found.setdefault(tuple(sorted(shape)), (shape, splits[skipped:]))
        if leaf.ndim > 2 and not any(splits[:-1]):
            # The kernel of a patch embedding is multiplied as a matrix.
            shape = (math.prod(leaf.shape[:-1]), leaf.shape[-1])
            found.setdefault(tuple(sorted(shape)), (shape, ((), splits[-1])))
    return found


def with_mesh(experiment: Experiment, **changes: Any) -> Experiment:
    """Returns the experiment with changes to its mesh."""
    return dataclasses.replace(experiment, mesh=dataclasses.replace(experiment.mesh, **changes))


def placed_values(walk: Walk, frame: Frame, tree: Any, kind: str) -> list[Value]:
    """Returns the leaves of a tree of shapes with shardings as values that are stored before a program."""
    values = []
    for leaf in jax.tree.leaves(tree):
        value = walk.value(leaf, partitioning.of_spec(leaf.sharding.spec, leaf.ndim))
        value.of_batch, value.label = kind == "batch", kind
        values.append(frame.outside(value))
    return values


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
