"""Renders a task file for SkyPilot, run as a managed job."""

import shlex
from collections.abc import Sequence

from ivjax.errors import UserError
from ivjax.launch.clouds import chips_per_host, is_tpu, refuse_cpu, runtime_version, skypilot_accelerators
from ivjax.launch.command import PORT, Mount
from ivjax.launch.host_entry import STOPPED
from ivjax.launch.render import Placement, Rendered, ShellCommand, indented, quoted
from ivjax.launch.target import SkyPilot

_HOME = "/tmp/ivjax"
_VENV = "~/ivjax-venv"


def render(target: SkyPilot, place: Placement) -> Rendered:
    """Renders NAME.sky.yaml."""
    refuse_cpu(place.topology, "SkyPilot")
    if place.topology.slices > 1:
        raise UserError(
            f"{place.topology.name}: SkyPilot does not join slices; use `ivjax launch gke` or `tpu-vm`"
        )
    if not (target.image or target.wheel or target.pip):
        raise UserError('a skypilot target needs image, wheel or pip, as in wheel = "build"')
    mounts = place.job.mounts(target.mounts, ("gs", "s3"))
    file = f"{place.name}.sky.yaml"
    path = str(place.folder / file)
    text = "\n".join(
        [
            f"# {place.title}",
            f"# submit: sky jobs launch {shlex.quote(path)}    watch: sky jobs queue",
            f"# logs: sky jobs logs -n {place.name}    end: sky jobs cancel -n {place.name}",
            f"name: {place.name}",
            *_resources(target, place),
            *_environment(target, place),
            *_files(target, place, mounts),
            *_setup(target, place),
            *_run(target, place, mounts),
            "",
        ]
    )
    # --secret, not --env: SkyPilot shows plain variables in its logs and dashboard.
    secrets = [word for name in target.passed for word in ("--secret", name)]
    step = ShellCommand(("sky", "jobs", "launch", "--yes", "--detach-run", *secrets, path))
    wheel = place.wheel(target) if target.wheel == "build" else None
    return Rendered(place.name, {file: text}, (step,), wheel, target.passed)


def _resources(target: SkyPilot, place: Placement) -> list[str]:
    lines = ["", "resources:"]
    infra = target.infra or ("gcp" if is_tpu(place.topology) else "")
    lines += [f"  infra: {quoted(infra)}"] if infra else []
    lines.append(f"  accelerators: {skypilot_accelerators(place.topology)}")
    if is_tpu(place.topology):
        version = target.runtime or runtime_version(place.topology)
        lines += ["  accelerator_args:", f"    runtime_version: {quoted(version)}"]
    lines += [f"  use_spot: {str(target.spot).lower()}"]
    lines += [f"  disk_size: {target.disk}"] if target.disk else []
    lines += [f"  image_id: {quoted(f'docker:{target.image}')}"] if target.image else []
    lines += ["  job_recovery:", f"    max_restarts_on_errors: {target.restarts}"]
    # Stopped before the end: run again, whatever the count says.
    lines += [f"    recover_on_exit_codes: [{STOPPED}]"]
    # SkyPilot counts a TPU slice as one node, however many hosts it has.
    return [*lines, "", f"num_nodes: {1 if is_tpu(place.topology) else place.topology.hosts}"]


def _environment(target: SkyPilot, place: Placement) -> list[str]:
    gpus = {"JAX_LOCAL_DEVICE_IDS": ",".join(map(str, range(chips_per_host(place.topology))))}
    plain = target.plain if is_tpu(place.topology) else gpus | target.plain
    lines = ["", "envs:", *(f"  {key}: {quoted(value)}" for key, value in plain.items())] if plain else []
    return [
        *lines,
        *(["", "secrets:", *(f"  {key}: null" for key in target.passed)] if target.passed else []),
    ]


def _files(target: SkyPilot, place: Placement, mounts: Sequence[Mount]) -> list[str]:
    lines = ["", "file_mounts:"]
    for mount in mounts:
        # The short form `PATH: ADDRESS` would copy the bucket once and write nothing back.
        lines += [f"  {quoted(mount.path)}:", f"    source: {quoted(mount.url)}", "    mode: MOUNT"]
    carried = [file for file in (place.wheel(target), place.job.file) if file]
    return [*lines, *(f"  {quoted(f'{_HOME}/{file.name}')}: {quoted(str(file))}" for file in carried)]


def _setup(target: SkyPilot, place: Placement) -> list[str]:
    needed = place.requirement(target, _HOME)
    if not needed:
        return []
    return [
        "",
        "setup: |",
        "  set -e",
        "  # The machine's own Python may be older than ivjax asks for.",
        "  python3 -m pip install -q uv",
        # Setup runs again after each recovery, and may find the machine it left.
        f"  [ -d {_VENV} ] || python3 -m uv venv -q --python 3.12 {_VENV}",
        f"  python3 -m uv pip install -q --python {_VENV}/bin/python {shlex.quote(needed)}",
    ]


def _run(target: SkyPilot, place: Placement, mounts: Sequence[Mount]) -> list[str]:
    config = f"{_HOME}/{place.job.file.name}" if place.job.file else None
    flags, lines = "", ["set -e", *target.setup.splitlines()]
    # On TPUs jax finds the other hosts through the metadata server. For GPUs it does not
    # know SkyPilot's variables.
    if not is_tpu(place.topology) and place.topology.hosts > 1:
        lines.append('first=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)')
        flags = (
            f'--coordinator "$first:{PORT}" --processes "$SKYPILOT_NUM_NODES" --process "$SKYPILOT_NODE_RANK"'
        )
    if not target.image:
        lines.append(f"export PATH={_VENV}/bin:$PATH")
    return ["", "run: |", indented("\n".join([*lines, place.job.line(mounts, config, flags)]), 2)]
