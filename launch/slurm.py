"""A batch script for Slurm."""

import re
import shlex
from pathlib import Path

from ivjax.errors import UserError
from ivjax.launch.clouds import chips_per_host, is_tpu, refuse_cpu
from ivjax.launch.host_entry import BAD_INPUT, STOPPED
from ivjax.launch.local_paths import Folders
from ivjax.launch.render import Placement, Rendered, ShellCommand
from ivjax.launch.target import Slurm


def render(target: Slurm, place: Placement) -> Rendered:
    """Renders NAME.sbatch, to be submitted from the folder where it is rendered."""
    refuse_cpu(place.topology, "Slurm")
    if is_tpu(place.topology) or place.topology.slices > 1:
        raise UserError(
            f"{place.topology.name}: a Slurm target has GPUs and no slices, such as h200:64; for TPUs use "
            "`ivjax launch tpu-vm` or `gke`"
        )
    place.job.mounts(target.mounts, ())
    script = f"{place.name}.sbatch"
    lines = [*_head(target, place, script), *_environment(target, place), *_run(target, place), ""]
    step = ShellCommand(("sbatch", str(place.folder / script)))
    wheel = place.wheel(target) if target.wheel == "build" else None
    return Rendered(place.name, {script: "\n".join(lines)}, (step,), wheel, target.passed)


def _head(target: Slurm, place: Placement, script: str) -> list[str]:
    options = {
        "job-name": place.name,
        "nodes": place.topology.hosts,
        # One process a node drives all of its GPUs: it reads clips once for all of them.
        "ntasks-per-node": 1,
        "gpus-per-node": chips_per_host(place.topology),
        "cpus-per-task": target.cpus or None,
        "time": target.time,
        "partition": target.partition,
        "account": target.account,
        "qos": target.qos,
        "constraint": target.constraint,
        "reservation": target.reservation,
        "output": place.folder / "%x-%j.log",
        # The default would empty the log each time the job is requeued.
        "open-mode": "append",
        "requeue": True,
        "export": "ALL",
        # To the tasks, not to the script: they save, and it sees their exit status.
        "signal": f"TERM@{target.grace}",
    }
    for key, value in options.items():
        # sbatch takes these lines apart itself, at blanks and quotes.
        if re.search(r"[\s\"'`\\]", str(value)):
            raise UserError(
                f"{key} = {str(value)!r}: sbatch takes no blanks, quotes or backslashes; leave them out"
            )
    given = [
        f"#SBATCH --{key}" + ("" if value is True else f"={value}") for key, value in options.items() if value
    ]
    return [
        "#!/bin/bash",
        f"# {place.title}",
        f"# submit: sbatch {place.folder / script}    watch: squeue --me    end: scancel JOB",
        *given,
        "",
        # No -e: the lines after srun must run when it fails, to decide on a requeue.
        "set -uo pipefail",
    ]


def _environment(target: Slurm, place: Placement) -> list[str]:
    gpus = ",".join(map(str, range(chips_per_host(place.topology))))
    lines = [
        "",
        "# One process a node: without this line jax would use one GPU for each.",
        f"export JAX_LOCAL_DEVICE_IDS={gpus}",
    ]
    # srun does not take it from the head.
    lines += [f"export SRUN_CPUS_PER_TASK={target.cpus}"] if target.cpus else []
    lines += [f"export {name}={shlex.quote(value)}" for name, value in target.plain.items()]
    # Slurm copies the submitting shell's environment (export ALL), so values need not be in the script.
    lines += [f': "${{{name}:?is not set in the shell that submits}}"' for name in target.passed]
    lines += target.setup.splitlines()
    wheel = place.wheel(target)
    needed = place.requirement(target, str(wheel.parent) if wheel else "")
    if needed:
        venv = shlex.quote(str(place.folder / "venv"))
        # Made anew for a new wheel, and kept over restarts.
        stale = f"! {venv}/bin/ivjax -nt {shlex.quote(str(wheel))}" if wheel else f"! -x {venv}/bin/ivjax"
        lines += [
            "",
            f"if [ {stale} ]; then",
            f"  python3 -m venv --clear {venv} && {venv}/bin/pip install -q {shlex.quote(needed)} || exit 1",
            "fi",
            f"export PATH=$(realpath {venv})/bin:$PATH",
        ]
    return lines


def _run(target: Slurm, place: Placement) -> list[str]:
    config = str(place.job.file) if place.job.file else None
    # Without the flag Slurm keeps the other tasks, which wait for the dead one.
    srun = ["srun", "--kill-on-bad-exit=1", *_container(target, place), "\\"]
    return [
        "",
        "# This script gets SIGTERM from scancel, and from a preemption, after which Slurm itself requeues.",
        "told=false; trap 'told=true' TERM",
        " ".join(srun),
        # Without coordinates: jax reads them from Slurm's variables.
        f"  {place.job.line([], config)}",
        "status=$?",
        "",
        f"# {STOPPED}: saved and left before the end, at the time limit say; {BAD_INPUT}: bad input.",
        "again=false; restarts=${SLURM_RESTART_COUNT:-0}",
        'case "$status" in',
        f"  0 | {BAD_INPUT}) ;;",
        f"  {STOPPED}) again=true ;;",
        f'  *) [ "$restarts" -ge {target.restarts} ] || again=true ;;',
        "esac",
        # A requeue after scancel would bring back what the user ended.
        'if [ "$again" = true ] && [ "$told" = false ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
        'exit "$status"',
    ]


def seen_on_slurm(target: Slurm) -> Folders:
    """Returns the folders that the nodes, or the image on them, see."""
    if target.image:
        add = "add its folder to container_mounts, as in /data:/data"
        # The folder of submission is always mounted.
        return Folders([*_mounted(target), str(Path.cwd())], add, add, "tasks in the image", True)
    put = "put it into a folder that all nodes share"
    return Folders([folder for folder in target.shared.split(",") if folder], put, put, "the nodes", True)


def _mounted(target: Slurm) -> list[str]:
    """The folders of container_mounts as they are called inside the image."""
    pairs = [pair.split(":") for pair in target.container_mounts.split(",") if pair]
    return [pair[1] if len(pair) > 1 else pair[0] for pair in pairs]


def _container(target: Slurm, place: Placement) -> list[str]:
    """Returns srun's options for an image. Its mounts must hold the run folder, or it would be lost."""
    if not target.image:
        return []
    seen = _mounted(target)
    paths = [path for path in (place.job.workdir, place.job.file and str(place.job.file)) if path]
    for path in paths:
        # A relative path lies under $PWD, which is always mounted.
        if path.startswith("/") and not any(
            f"{path}/".startswith(f"{folder.rstrip('/')}/") for folder in seen
        ):
            raise UserError(
                f"{path} is not seen inside the image; add its folder to container_mounts, as in /data:/data"
            )
    more = f",{shlex.quote(target.container_mounts)}" if target.container_mounts else ""
    return [
        f"--container-image={shlex.quote(target.image)}",
        f'--container-mounts="$PWD:$PWD"{more}',
        '--container-workdir="$PWD"',
    ]
