"""Joining the other processes of a job."""

import contextlib
import functools
from dataclasses import dataclass

import jax

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


# Once for a process: after a first start jax has counted its devices, and refuses to be asked again.
@functools.cache
def _join_cluster() -> None:
    # A ValueError says that no cluster was found in the environment: this process is the whole job.
    with contextlib.suppress(ValueError):
        jax.distributed.initialize()
