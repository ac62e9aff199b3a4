"""Joining the other processes of a job."""

import contextlib
import functools
import itertools
from dataclasses import dataclass
from typing import Any

import jax
from jax._src import distributed  # its service has no public name

from ivjax.errors import UserError


@dataclass(frozen=True)
class Job:
    """The place of this process in a job, if the user gives it; else the environment is asked."""

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def join(job: Job) -> None:
    """Starts jax.distributed from explicit flags, or from Slurm, GKE, Cloud TPU or Open MPI.

    Must come before anything touches a device. A plain machine runs alone.
    """
    given = (job.coordinator, job.processes, job.process)
    if any(value is not None for value in given):
        # jax would take what is missing from the environment, which may be that of another job.
        if None in given:
            raise UserError("--coordinator, --processes and --process belong together; give all three")
        if not 0 <= job.process < job.processes:  # type: ignore[operator]
            raise UserError(f"--process {job.process} is not one of 0..{job.processes - 1}")  # type: ignore[operator]
        try:
            jax.distributed.initialize(job.coordinator, job.processes, job.process)
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise UserError(f"cannot join the job at {job.coordinator} ({first}); is it reachable?") from None
        return
    _join_cluster()


def service() -> Any:
    """The client of the service that holds a job together: barriers, and a store of keys and values."""
    return distributed.global_state.client


_meetings = itertools.count()
_MEETING_MINUTES = 120


def meet() -> None:
    """Waits until all processes of the job have come here, which they do the same number of times.

    Called behind what takes one process longer than another, such as compiling: a process that goes ahead
    into a collective operation waits there for 30 s on CPUs, and then fails.
    """
    number = next(_meetings)
    if jax.process_count() > 1:
        service().wait_at_barrier(f"ivjax/meet/{number}", _MEETING_MINUTES * 60_000)


# Once for a process: after a first start jax has counted its devices, and refuses to be asked again.
@functools.cache
def _join_cluster() -> None:
    # A ValueError says that no cluster was found in the environment: this process is the whole job.
    with contextlib.suppress(ValueError):
        jax.distributed.initialize()
