"""Compiles a step for a topology that need not be there, and reads its memory and traffic."""

import contextlib
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.ops.trees import paths_of
from ivjax.plan.census import Census, census
from ivjax.plan.devices import compile_devices, libtpu_lock
from ivjax.plan.estimate import Estimate
from ivjax.plan.topology import Topology
from ivjax.train.mesh import build_mesh, check_batch
from ivjax.train.program import Program, program_of

# libtpu says in two ways that a step does not fit.
_TOO_LARGE = (
    re.compile(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm"),
    re.compile(
        r"required for HLO temporaries \(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)"
    ),
)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Warnings are given beyond a factor of what shapes need, and beyond a size that matters on any chip.
_TRAFFIC_FACTOR, _TRAFFIC_BYTES = 1.5, 256 * 2**20
_GATHER_FACTOR, _GATHER_BYTES = 1.5, 64 * 2**20


@dataclass(frozen=True)
class CompiledStep:
    """A compiled step: bytes on one device, and what it sends.

    Attributes:
        seconds: how long the compiler took.
        arguments: bytes of the step's arguments.
        alive: the most bytes that the step's own values take at once.
        heap: the bytes that they are laid out in, with gaps between them.
        fast: bytes that are in the chip's fast memory instead.
        output: bytes of outputs that do not overwrite arguments.
        code: bytes of the program.
        census: its collectives.
        largest: the largest places of the heap: (bytes, shapes).
        warnings: what is replicated, gathered or sent by accident.
    """

    seconds: float
    arguments: int
    alive: int
    heap: int
    fast: int
    output: int
    code: int
    census: Census
    largest: tuple[tuple[int, str], ...]
    warnings: tuple[str, ...]

    @property
    def total(self) -> int:
        """Bytes that a device must have."""
        return self.arguments + self.heap + self.output + self.code


@dataclass(frozen=True)
class TooLarge:
    """A step that the compiler could not fit into a device.

    Attributes:
        seconds: how long it took to find out.
        total: bytes that the step takes.
        limit: bytes that a device has.
    """

    seconds: float
    total: int
    limit: int


def compile_step(experiment: Experiment, topology: Topology, expected: Estimate) -> CompiledStep | TooLarge:
    """Compiles the step for batches of the main medium; needs no accelerator."""
    mesh = build_mesh(experiment.mesh, compile_devices(topology))
    check_batch(experiment.batch, experiment.accumulate, mesh)
    with compiling(topology, mesh):
        program = program_of(experiment, mesh)

        def warnings(executable: Any, found: Census) -> Iterator[str]:
            yield from _replicated(program, executable)
            yield from _gathered(found, expected)
            yield from _traffic(found, expected)

        return compile_program(program.lower, topology, mesh, warnings)


@contextlib.contextmanager
def compiling(topology: Topology, mesh: Mesh) -> Iterator[None]:
    """Sets the mesh that programs are compiled for, and keeps other processes from compiling meanwhile."""
    alone = libtpu_lock() if topology.chip.platform == "tpu" else contextlib.nullcontext()
    with jax.set_mesh(mesh), alone:
        yield


def compile_program(
    lower: Callable[[], jax.stages.Lowered],
    topology: Topology,
    mesh: Mesh,
    warnings: Callable[[Any, Census], Iterable[str]] = lambda executable, found: (),
) -> CompiledStep | TooLarge:
    """Compiles what `lower` returns; call it inside `compiling`."""
    with tempfile.TemporaryDirectory() as folder:
        lowered = _lowered(lower, topology)
        started = time.perf_counter()
        # libtpu writes the report of its heap only as a file.
        options: dict[str, str | bool] = {}
        if topology.chip.platform == "tpu":
            options["xla_dump_to"] = folder
        try:
            executable = lowered.compile(compiler_options=options or None)
        except jax.errors.JaxRuntimeError as error:
            return _too_large(error, time.perf_counter() - started, topology)
        seconds = time.perf_counter() - started
        report = _Report(Path(folder))
        found = census(str(executable.as_text()), mesh)
    stats: Any = executable.memory_analysis()
    # Donated arguments are written over by the new state, and would be counted twice.
    output = stats.output_size_in_bytes - stats.alias_size_in_bytes
    outside = stats.argument_size_in_bytes + output
    heap = stats.temp_size_in_bytes if report.used is None else report.used - outside
    # libtpu's peak includes arguments, outputs and what is in fast memory.
    alive = stats.peak_memory_in_bytes - outside - report.fast
    return CompiledStep(
        seconds=seconds,
        arguments=stats.argument_size_in_bytes,
        # Elsewhere than on TPU, the reported peak leaves out temporaries.
        alive=min(max(alive, 0), heap) if report.used is not None else heap,
        heap=heap,
        fast=report.fast,
        output=output,
        code=stats.generated_code_size_in_bytes,
        census=found,
        largest=tuple(report.largest),
        warnings=tuple(warnings(executable, found)),
    )


def _lowered(lower: Callable[[], jax.stages.Lowered], topology: Topology) -> jax.stages.Lowered:
    try:
        return lower()
    except RuntimeError as error:
        # jax asks cuDNN for its version when it lowers attention for a GPU.
        if "cuDNN" not in str(error):
            raise
        raise UserError(
            f"compiling for {topology.chip.name} needs cuDNN's library, though no GPU: "
            "pip install nvidia-cudnn-cu12 nvidia-cublas-cu12"
        ) from None


def _too_large(error: Exception, seconds: float, topology: Topology) -> TooLarge:
    found = next((match for pattern in _TOO_LARGE if (match := pattern.search(str(error)))), None)
    if found is None:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"the step does not compile for {topology.name}: {first}") from error
    used, limit = (
        int(float(number) * _UNITS[unit]) for number, unit in ((found[1], found[2]), (found[3], found[4]))
    )
    return TooLarge(seconds, used, limit)


class _Report:
    """The memory report that libtpu writes.

    Attributes:
        used: bytes of HBM, arguments included; None where there is no report.
        fast: bytes of the chip's fast memory.
        largest: the largest places of the heap: (bytes, shapes).
    """

    def __init__(self, folder: Path):
        files = sorted(folder.glob("*memory-usage-report.txt"))
        spaces = files[-1].read_text().split("Memory Space: ")[1:] if files else []
        totals = {space.split()[0]: int(re.findall(r"Total bytes: (\d+)", space)[0]) for space in spaces}
        self.used: int | None = totals.get("default")
        self.fast: int = totals.get("vmem", 0)
        self.largest = [
            place for line in (spaces[0].splitlines()[4:12] if spaces else []) for place in _place(line)
        ]


def _place(line: str) -> Iterator[tuple[int, str]]:
    columns = [column.strip() for column in line.split(";")]
    size = re.fullmatch(r"([\d.]+)([KMG])iB", columns[1]) if len(columns) == 5 else None
    if size:
        yield int(float(size[1]) * _UNITS[size[2]]), columns[4]


def _replicated(program: Program, executable: Any) -> Iterator[str]:
    """Yields a warning for each argument of which a device holds more than the sharding rules say."""
    given = (program.state, program.frozen)
    for path, (leaf, placed) in _leaves(given, executable.input_shardings[0][:2]):
        wanted, found = (s.shard_shape(leaf.shape) for s in (leaf.sharding, placed))
        if found != wanted:
            yield (
                f"each device holds {found} of {path}, and by its sharding rule {wanted}: "
                "it is replicated by accident"
            )


def _leaves(shapes: Any, shardings: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for tree, placed in zip(shapes, shardings, strict=True):
        # None, which is no leaf by itself, stands for an argument that the program does not read.
        every = jax.tree.leaves(placed, is_leaf=lambda sharding: sharding is None)
        for (path, leaf), sharding in zip(paths_of(tree), every, strict=True):
            if sharding is not None:
                yield path, (leaf, sharding)


def _gathered(found: Census, expected: Estimate) -> Iterator[str]:
    largest = max(expected.costs.largest.values(), default=0)
    for traffic in found.traffic:
        # Larger than any parameter: what is gathered then can only be an activation.
        if traffic.kind == "all-gather" and traffic.largest > max(_GATHER_FACTOR * largest, _GATHER_BYTES):
            yield (
                f"an array of {traffic.largest / 2**20:.0f} MiB is gathered along {'+'.join(traffic.axes)}, "
                f"and the largest parameter that a step gathers has {largest / 2**20:.0f} MiB: "
                "an activation loses its split"
            )


def _traffic(found: Census, expected: Estimate) -> Iterator[str]:
    """Yields a warning for each axis along which far more is sent than shapes need."""
    sent: Counter[str] = Counter()
    for traffic in found.traffic:
        # A collective along two axes counts for the first, as the estimate counts it.
        sent[traffic.axes[0]] += traffic.bytes
    for axis, size in sent.items():
        need = expected.costs.sent.get(axis, 0.0)
        if size > _TRAFFIC_FACTOR * need and size - need > _TRAFFIC_BYTES:
            yield (
                f"{size / 2**30:.2f} GiB are sent along {axis} in a step, and {need / 2**30:.2f} would do: "
                "look for a value that changes its layout"
            )
    for loop in found.unknown_loops:
        yield f"the trip count of loop {loop} is unknown; what it sends is counted once"
