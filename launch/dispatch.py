"""Renders, writes and starts a launch: from a command line and a target to files and client calls."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ivjax.launch import client, gke, local_paths, skypilot, slurm, tpu_vm
from ivjax.launch.command import LaunchedCommand
from ivjax.launch.local_paths import Folders
from ivjax.launch.render import Placement, Rendered
from ivjax.launch.slurm import seen_on_slurm
from ivjax.launch.target import Slurm, Target, check_line, check_name, read_target
from ivjax.plan.topology import parse
from ivjax.progress import Say

_RENDERERS: dict[str, Callable[[Any, Placement], Rendered]] = {
    "slurm": slurm.render,
    "tpu-vm": tpu_vm.render,
    "gke": gke.render,
    "skypilot": skypilot.render,
}


def render(kind: str, target: Target, job: LaunchedCommand, out: Path | None = None) -> tuple[Rendered, Path]:
    """Returns the files of a job and the folder they belong in, `jobs/NAME` by default; writes nothing."""
    topology = parse(target.topology, target.slices)
    job.check_hosts(topology.hosts)
    name = check_name(target.name or job.name)
    folder = out or Path("jobs") / name
    check_line("--out", str(folder))
    return _RENDERERS[kind](target, Placement(job, name, topology, folder)), folder


def _folders(target: Target, job: LaunchedCommand) -> Folders:
    """The folders that the machines of a target see."""
    if isinstance(target, Slurm):
        return seen_on_slurm(target)
    mounts = job.mounts(target.mounts, ("gs", "s3"))
    brought = ", unless the image or setup brings it" if target.image or target.setup else ""
    return Folders(
        [mount.path for mount in mounts],
        f"copy it into a bucket and write its address instead, such as gs://BUCKET/{{name}}{brought}",
        "write a place in a bucket, such as gs://BUCKET/{name}",
    )


def launch(
    kind: str,
    job: LaunchedCommand,
    file: Path | None,
    changes: Sequence[tuple[str, str]],
    out: Path | None,
    dry: bool,
    say: Say = print,
    note: Say = print,
) -> int:
    """Checks, renders, writes and starts a job; returns an exit status.

    A `dry` launch starts nothing; it writes files only if `out` says where. `note` is told what the user
    should know about the overrides.
    """
    target = read_target(kind, file, changes)
    # The target first: reading it takes no time, while a config may import its stage.
    experiments = job.experiments(note)
    job = job.with_buckets_of(experiments)
    rendered, folder = render(kind, target, job, out)
    for line in local_paths.warnings(job.paths(experiments), _folders(target, job)):
        note(line)
    if dry:
        client.show(rendered, folder, say)
    if out is not None or not dry:
        client.write(rendered, folder)
    return 0 if dry else client.start(rendered, folder, say)
