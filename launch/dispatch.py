"""Renders, writes and starts a launch: from a command line and a target to files and client calls."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ivjax.launch import client, gke, skypilot, slurm, tpu_vm
from ivjax.launch.command import LaunchedCommand
from ivjax.launch.render import Placement, Rendered
from ivjax.launch.target import Target, check_name, read_target
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
    return _RENDERERS[kind](target, Placement(job, name, topology, folder)), folder


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
    job.check(note)
    rendered, folder = render(kind, target, job, out)
    if dry:
        client.show(rendered, folder, say)
    if out is not None or not dry:
        client.write(rendered, folder)
    return 0 if dry else client.start(rendered, folder, say)
