"""Shows rendered files, or writes them and runs the clusters' own clients (sbatch, gcloud, kubectl, ...)."""

import os
import shutil
import subprocess
from pathlib import Path

from ivjax.errors import UserError
from ivjax.launch.render import Rendered, ShellCommand, build_wheel, secret_manifest
from ivjax.progress import Say

_CLIENTS = {
    "sbatch": "it is part of Slurm and lives on a cluster's login nodes",
    "gcloud": "install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install",
    "kubectl": "install it with `gcloud components install kubectl`",
    # xpk and SkyPilot pin exact versions of packages that clash with those of ivjax.
    "xpk": "install it with `pip install xpk`, in an environment of its own",
    "sky": "install it with `pip install 'skypilot[gcp]'`, in an environment of its own",
}


def show(rendered: Rendered, folder: Path, say: Say) -> None:
    """Says every file under a line with its path, and the commands that would follow."""
    for name, text in rendered.files.items():
        say(f"# {folder / name}\n{text}")
    say("\n".join(["# then:", *(f"#   {step}" for step in rendered.steps)]))


def write(rendered: Rendered, folder: Path) -> None:
    """Writes the files, replacing those of an earlier launch."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in rendered.files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write into {folder} ({error.strerror}); name another folder by --out"
        ) from None


def start(rendered: Rendered, folder: Path, say: Say) -> int:
    """Runs the steps in order; returns the status of the first that fails, or 0."""
    for step in rendered.steps:
        for client in clients(step):
            if shutil.which(client) is None:
                raise UserError(
                    f"{client} is not installed: {_CLIENTS[client]}; the files are ready in {folder}, and "
                    "--dry-run shows them without it"
                )
    missing = [name for name in rendered.passed if name not in os.environ]
    if missing:
        raise UserError(
            f"the target passes on {', '.join(missing)}, which this shell does not set; export it first"
        )
    if rendered.wheel is not None:
        build_wheel(rendered.wheel)
    for step in rendered.steps:
        say(f"$ {step}")
        status = _run(step)
        if status:
            say(f"{step.words[0]} ended with status {status}; its files are in {folder}")
            return status
    return 0


def clients(step: ShellCommand) -> list[str]:
    """Returns the programs that a command needs; for a script, those that it calls."""
    if step.words[0] != "bash":
        return [step.words[0]]
    # The scripts call one client each; searching their text for programs would find shell functions too.
    return ["xpk"] if step.words[1].endswith(".xpk.sh") else ["gcloud"]


def _run(step: ShellCommand) -> int:
    if step.secret is None:
        return subprocess.run(step.words, check=False).returncode
    # Through standard input: a file would stay on disk, and an argument shows in the list of processes.
    return subprocess.run(step.words, input=secret_manifest(*step.secret), text=True, check=False).returncode
