"""Renders scripts for TPU VMs: one that makes, prepares, starts, watches and deletes them, and their own."""

import shlex
from collections.abc import Sequence

from ivjax.errors import UserError
from ivjax.launch.clouds import accelerator_type, is_tpu, runtime_version
from ivjax.launch.command import Mount
from ivjax.launch.host_entry import BAD_INPUT
from ivjax.launch.render import Placement, Rendered, ShellCommand
from ivjax.launch.target import TpuVm
from ivjax.launch.tpu_vm_script import COMMANDS

# A checkpoint is committed by renaming its folder; gcsfuse refuses to rename those with more entries.
GCSFUSE = "--implicit-dirs --rename-dir-limit=200000"


def render(target: TpuVm, place: Placement) -> Rendered:
    """Renders NAME.sh for this machine, and NAME.setup.sh, NAME.run.sh and NAME.service for every worker."""
    if not is_tpu(place.topology):
        raise UserError(
            f"{place.topology.name}: a tpu-vm target has TPUs, such as v5e:4x4; for GPUs use slurm or gke"
        )
    if not (target.image or target.wheel or target.pip):
        raise UserError(
            'a tpu-vm target needs image, wheel or pip, as in wheel = "build" or image = "REGISTRY/ivjax:1"'
        )
    mounts = place.job.mounts(target.mounts, ("gs",))
    name = place.name
    files = {
        f"{name}.sh": _control(target, place),
        f"{name}.setup.sh": _setup(target, place, mounts),
        f"{name}.run.sh": _run(target, place, mounts),
        f"{name}.service": _service(target, place),
    }
    step = ShellCommand(("bash", str(place.folder / f"{name}.sh"), "up"))
    wheel = place.wheel(target) if target.wheel == "build" else None
    return Rendered(name, files, (step,), wheel, target.passed)


def _control(target: TpuVm, place: Placement) -> str:
    name, many = place.name, place.topology.slices > 1
    nodes = [f"{name}-{number}" for number in range(place.topology.slices)] if many else [name]
    carried = [f"{name}.setup.sh", f"{name}.run.sh", f"{name}.service"]
    carried += [str(file) for file in (place.wheel(target), place.job.file) if file]
    # Spot machines and several slices exist only as queued resources.
    queued = target.queued or target.spot or many
    settings = {
        "NAME": name,
        "NODES": f"({' '.join(nodes)})",
        "WHERE": f"(--zone={shlex.quote(target.zone)} --project={shlex.quote(target.project)})",
        "KIND": "queued-resources" if queued else "tpu-vm",
        "STATE": "state.state" if queued else "state",
        "READY": "ACTIVE" if queued else "READY",
        "CREATE": f"({' '.join(_create(target, place, queued))})",
        # --force also deletes the machines of a queued resource, which otherwise refuses to go.
        "DELETE": "(--force --quiet)" if queued else "(--quiet)",
        "FILES": f"({' '.join(shlex.quote(_beside(file, place)) for file in carried)})",
        "PASSED": f"({' '.join(target.passed)})",
        "PLAIN": f"({' '.join(shlex.quote(f'{key}={value}') for key, value in target.plain.items())})",
        "DELETE_WHEN_DONE": str(target.delete_when_done).lower(),
    }
    head = (
        f"#!/bin/bash\n# {place.title}\n# bash {name}.sh up|create|setup|run|watch|logs|status|stop|delete\n"
    )
    lines = "".join(f"{key}={value}\n" for key, value in settings.items())
    return f'{head}set -euo pipefail\ncd "$(dirname "$0")"\n\n{lines}{COMMANDS}'


def _beside(file: str, place: Placement) -> str:
    """Returns a file's bare name if it is beside the script, else its path."""
    folder = f"{place.folder}/"
    return file[len(folder) :] if file.startswith(folder) else file


def _create(target: TpuVm, place: Placement, queued: bool) -> list[str]:
    version = target.runtime or runtime_version(place.topology)
    flags = [f"--accelerator-type={accelerator_type(place.topology)}"]
    if queued:
        flags.append(f"--runtime-version={version}")
        slices = place.topology.slices
        flags += (
            [f"--node-count={slices}", f"--node-prefix={place.name}"]
            if slices > 1
            else [f"--node-id={place.name}"]
        )
    else:
        flags.append(f"--version={version}")
    flags += [f"--{name}" for name in ("spot", "reserved") if getattr(target, name)]
    flags += [f"--service-account={target.service_account}"] if target.service_account else []
    flags += [f"--network={target.network}"] if target.network else []
    return [shlex.quote(flag) for flag in [*flags, "--scopes=https://www.googleapis.com/auth/cloud-platform"]]


def _home(place: Placement) -> str:
    return f"/opt/ivjax/{place.name}"


def _setup(target: TpuVm, place: Placement, mounts: Sequence[Mount]) -> str:
    """Returns the setup script, which root runs on every worker; a second run changes nothing."""
    lines = [
        "#!/bin/bash",
        f"# Prepares a TPU VM for {place.name}: gcsfuse, and ivjax with its own Python or in an image.",
        "set -euo pipefail",
        f"cd {_home(place)}",
        "",
        "if ! command -v gcsfuse > /dev/null; then",
        "  key=/usr/share/keyrings/cloud.google.asc",
        '  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg > "$key"',
        '  suite="gcsfuse-$(lsb_release -cs) main"',
        '  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt $suite" \\',
        "    > /etc/apt/sources.list.d/gcsfuse.list",
        "  apt-get -q update && apt-get -q install -y gcsfuse",
        "fi",
    ]
    if target.image:
        registry = target.image.split("/")[0]
        lines += (
            [f"gcloud auth configure-docker --quiet {shlex.quote(registry)} || true"]
            if "." in registry
            else []
        )
        return "\n".join([*lines, f"docker pull {shlex.quote(target.image)}", ""])
    needed = shlex.quote(place.requirement(target, _home(place)))
    lines += [
        "# The VM's own Python is older than ivjax asks for.",
        "python3 -m pip install -q uv",
        "[ -d venv ] || python3 -m uv venv -q --python 3.12 venv",
        # A rebuilt wheel keeps its version number, so that pip would take the old one for up to date.
        f"python3 -m uv pip install -q --reinstall-package ivjax --python venv/bin/python {needed}",
    ]
    return "\n".join([*lines, ""])


def _run(target: TpuVm, place: Placement, mounts: Sequence[Mount]) -> str:
    """Returns the script that the service starts on every worker; jax finds the other hosts by itself."""
    lines = ["#!/bin/bash", f"# {place.title}", "set -euo pipefail", f"cd {_home(place)}", ""]
    for mount in mounts:
        path = shlex.quote(mount.path)
        only = f" --only-dir={shlex.quote(mount.folder)}" if mount.folder else ""
        lines.append(f"mkdir -p {path}")
        lines.append(f"mountpoint -q {path} || gcsfuse {GCSFUSE}{only} {mount.bucket} {path}")
    lines += target.setup.splitlines()
    config = f"{_home(place)}/{place.job.file.name}" if place.job.file else None
    command = place.job.line(mounts, config)
    if not target.image:
        return "\n".join([*lines, f"export PATH={_home(place)}/venv/bin:$PATH", f"exec {command}", ""])
    seen = [_home(place), *(mount.path for mount in mounts)]
    volumes = " ".join(f"--volume={shlex.quote(f'{path}:{path}')}" for path in seen)
    docker = [
        # --privileged and --net=host give access to the TPU devices and to the other hosts; --ipc=host lifts
        # docker's limit of 64 MB of shared memory; --init passes SIGTERM on.
        f"exec docker run --rm --init --name {place.name} --privileged --net=host --ipc=host \\",
        f"  --stop-timeout={target.grace} --env-file=env {volumes} \\",
        f"  {shlex.quote(target.image)} \\",
        f"  {command}",
    ]
    # A container that outlived a crash of its service would hold the name and the TPU.
    return "\n".join([*lines, f"docker rm -f {place.name} 2> /dev/null || true", *docker, ""])


def _service(target: TpuVm, place: Placement) -> str:
    """Returns a systemd unit: it outlives connections and reboots, and restarts what failed or stopped."""
    return f"""[Unit]
Description=ivjax {place.name}
Wants=network-online.target
After=network-online.target docker.service
StartLimitIntervalSec=1d
StartLimitBurst={target.restarts + 1}

[Service]
EnvironmentFile={_home(place)}/env
ExecStart=/bin/bash {_home(place)}/{place.name}.run.sh
Restart=on-failure
RestartSec=15
RestartPreventExitStatus={BAD_INPUT}
# SIGTERM goes to the command, which saves; what is left after that is killed.
KillMode=mixed
TimeoutStopSec={target.grace}

[Install]
WantedBy=multi-user.target
"""
