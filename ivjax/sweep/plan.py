"""What each run of a sweep would take, found before any of them starts."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax

from ivjax.data_pipelines.load.mixture import Media
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.plan.estimate import Memory, estimate
from ivjax.plan.plan import needed
from ivjax.sweep.traced import Tracer, group_key, step_key
from ivjax.train.chips import CHIPS, Chip, chip_of_kind
from ivjax.train.mesh import build_mesh, check_batch
from ivjax.train.program import Program, program_of


@dataclass(frozen=True)
class Planned:
    """A run's plan: `key` names its step, `group` the runs that it can be trained together with.

    `size` is in bytes per device, of `limit`; `per_run` is the part of it that each run of a group has of its
    own. `problem` says why the run cannot start, if it cannot.
    """

    key: str = ""
    group: str = ""
    traced: tuple[str, ...] = ()
    size: int = 0
    per_run: int = 0
    limit: int = 0
    problem: str | None = None


def plan(experiments: Sequence[Experiment], swept: Sequence[str], jobs: int) -> Iterator[Planned]:
    """The plans of runs that share this machine's devices, `jobs` at a time."""
    tracer = Tracer(swept)
    found: dict[str, Memory] = {}
    limit = memory_limit() // (jobs if jax.default_backend() == "cpu" else 1)
    for experiment in experiments:
        try:
            yield _plan(experiment, tracer, found, limit)
        except UserError as error:
            yield Planned(problem=str(error))


def _plan(experiment: Experiment, tracer: Tracer, found: dict[str, Memory], limit: int) -> Planned:
    mesh = build_mesh(experiment.mesh)
    check_batch(experiment.batch, experiment.accumulate, mesh)
    with jax.set_mesh(mesh):
        program = program_of(experiment, mesh)
        traced = tracer.traced(experiment, program)
    key = step_key(experiment, traced.paths)
    if key not in found:
        found[key] = estimate(experiment, _chip(), jax.device_count()).memory
    size = needed(found[key], _chip())
    problem = None
    if size > limit:
        problem = (
            f"it needs {size / 2**30:.2f} GiB on each device and {limit / 2**30:.2f} GiB are there; "
            "make the model or the batch smaller, split it over more devices, or use --force"
        )
    return Planned(
        key,
        group_key(experiment, traced, _one_seed(experiment, program)),
        traced.paths,
        size,
        size - found[key].given.get("frozen", 0),
        limit,
        problem,
    )


def _one_seed(experiment: Experiment, program: Program) -> bool:
    """Whether runs must have one seed to be trained together.

    It decides which medium serves a step, and what is frozen is drawn from it where no file holds it.
    """
    return isinstance(experiment.data, Media) or bool(program.frozen and experiment.init_fresh)


def _chip() -> Chip:
    return chip_of_kind(jax.devices()[0].device_kind) or CHIPS["cpu"]


def memory_limit() -> int:
    """Bytes that a device has; a CPU's devices share the machine's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()
