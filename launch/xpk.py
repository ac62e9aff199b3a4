"""Renders the commands of xpk, for clusters that it manages."""

import shlex
from collections.abc import Sequence

from ivjax.errors import UserError
from ivjax.launch.clouds import is_tpu, xpk_type
from ivjax.launch.command import Mount
from ivjax.launch.host_entry import STOPPED
from ivjax.launch.render import Placement, Rendered, ShellCommand
from ivjax.launch.target import Gke


def render(target: Gke, place: Placement) -> Rendered:
    """Renders NAME.xpk.sh, which attaches the buckets to the cluster and starts the workload."""
    missing = [key for key in ("cluster", "project", "zone", "image") if not getattr(target, key)]
    if missing:
        raise UserError(f'a gke target with client = "xpk" needs {" and ".join(missing)} too')
    if not is_tpu(place.topology):
        raise UserError(f'{place.topology.name}: ivjax uses xpk for TPUs; for GPUs use client = "kubectl"')
    if place.job.file:
        raise UserError(
            f"{place.job.file.name} cannot travel with xpk; put it into the image, or use kubectl"
        )
    mounts = place.job.mounts(target.mounts, ("gs",))
    if any(mount.folder for mount in mounts):
        raise UserError("xpk mounts whole buckets; write gs:// addresses in the command instead of mounts")
    file = f"{place.name}.xpk.sh"
    places = {"cluster": target.cluster, "project": target.project, "zone": target.zone}
    where = shlex.join(f"--{key}={value}" for key, value in places.items())
    lines = [
        "#!/bin/bash",
        f"# {place.title}",
        f"# watch: xpk workload list {where}",
        f"# end: xpk workload delete --workload={place.name} {where}",
        "set -euo pipefail",
        "",
        f"where=({where})",
        *_storages(mounts),
        *_workload(target, place, mounts),
        "",
    ]
    step = ShellCommand(("bash", str(place.folder / file)))
    return Rendered(place.name, {file: "\n".join(lines)}, (step,), None, target.passed)


def _storages(mounts: Sequence[Mount]) -> list[str]:
    lines = []
    for mount in mounts:
        lines += [
            f'if ! xpk storage list "${{where[@]}}" | grep -qw {_storage(mount)}; then',
            f'  xpk storage attach {_storage(mount)} "${{where[@]}}" --type=gcsfuse \\',
            f"    --bucket={mount.bucket} --mount-point={shlex.quote(mount.path)} \\",
            "    --readonly=false --auto-mount=false --mount-options=implicit-dirs,rename-dir-limit=200000",
            "fi",
        ]
    return lines


def _storage(mount: Mount) -> str:
    # Names of Kubernetes objects have neither dots nor underscores.
    return mount.bucket.replace(".", "-").replace("_", "-")


def _workload(target: Gke, place: Placement, mounts: Sequence[Mount]) -> list[str]:
    # xpk sends SIGTERM to the shell around the command; exec puts the command in its place.
    command = "\n".join([*target.setup.splitlines(), f"exec {place.job.line(mounts)}"])
    flags = [
        f"--workload={place.name}",
        f"--tpu-type={xpk_type(place.topology)}",
        f"--num-slices={place.topology.slices}",
        f"--docker-image={shlex.quote(target.image)}",
        f"--max-restarts={target.restarts}",
        f"--restart-on-exit-codes={STOPPED}",
        *([f"--priority={shlex.quote(target.priority)}"] if target.priority else []),
        *(["--spot"] if target.spot else []),
        *(f"--storage={_storage(mount)}" for mount in mounts),
        *(f"--env={shlex.quote(f'{key}={value}')}" for key, value in target.plain.items()),
        *(f'--env={key}="${{{key}:?is not set in this shell}}"' for key in target.passed),
        f"--command={shlex.quote(command)}",
    ]
    return ['xpk workload create "${where[@]}" \\', " \\\n".join(f"  {flag}" for flag in flags)]
