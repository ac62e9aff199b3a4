"""Whether each run of a sweep can start, found before any of them does."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax

from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.plan.estimate import estimate
from ivjax.plan.training_plan import needed
from ivjax.sweep.shared_values import SharedValues, step_key
from ivjax.train.chips import CHIPS, Chip, chip_of_kind
from ivjax.train.mesh import build_mesh, check_batch
from ivjax.train.program import program_of


@dataclass(frozen=True)
class Preflight:
    """Facts about a run that are known before it starts.

    Attributes:
        key: Equal for runs that share a compiled step.
        shared: Paths of the values that the step takes as arguments.
        size: Bytes that the run needs on each device.
        limit: Bytes that each device has for it.
        problem: Why the run cannot start, if it cannot.
    """

    key: str = ""
    shared: tuple[str, ...] = ()
    size: int = 0
    limit: int = 0
    problem: str | None = None


def preflight(experiments: Sequence[Experiment], swept: Sequence[str], jobs: int) -> Iterator[Preflight]:
    """Checks runs that share this machine's devices, `jobs` at a time; `swept` are the paths that differ."""
    shared_values = SharedValues(swept)
    sizes: dict[str, int] = {}
    # Only a CPU's memory is shared by processes: an accelerator belongs to one of them.
    limit = _memory_limit() // (jobs if jax.default_backend() == "cpu" else 1)
    for experiment in experiments:
        try:
            yield _check(experiment, shared_values, sizes, limit)
        except UserError as error:
            yield Preflight(problem=str(error))


def _check(experiment: Experiment, values: SharedValues, sizes: dict[str, int], limit: int) -> Preflight:
    mesh = build_mesh(experiment.mesh)
    check_batch(experiment.batch, experiment.accumulate, mesh)
    # Shardings inside a model's code are no-ops without a mesh in context.
    with jax.set_mesh(mesh):
        shared = values.paths(experiment, program_of(experiment, mesh))
    # Runs that share a step have the same size, and an estimate takes seconds.
    key = step_key(experiment, shared)
    if key not in sizes:
        sizes[key] = needed(estimate(experiment, _chip(), jax.device_count()).memory, _chip())
    size, problem = sizes[key], None
    if size > limit:
        problem = (
            f"it needs {size / 2**30:.2f} GiB on each device and {limit / 2**30:.2f} GiB are there; "
            "make the model or the batch smaller, split it over more devices, or use --force"
        )
    return Preflight(key, shared, size, limit, problem)


def _chip() -> Chip:
    return chip_of_kind(jax.devices()[0].device_kind) or CHIPS["cpu"]


def _memory_limit() -> int:
    """Bytes that a device has; a CPU's devices share the machine's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()
