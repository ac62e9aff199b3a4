"""Commands that train the runs of a sweep on other machines."""

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence

from ivjax.progress import Say
from ivjax.sweep.sweep_folder import SweepFolder
from ivjax.sweep.trials import Trial

Command = tuple[str, ...]  # a command line in words
_LONGEST = 30  # characters of a job's name before its number; clusters take a few more


def train_commands(sweep: SweepFolder) -> dict[int, Command]:
    """Returns the arguments of `ivjax` that train each unfinished run, by its number in the sweep."""
    pairs = zip(sweep.trials(), sweep.histories(), strict=True)
    return {n: _train(sweep, trial) for n, (trial, history) in enumerate(pairs) if not history.finished}


def launch_commands(sweep: SweepFolder, where: str, target: str) -> list[Command]:
    """Returns the arguments of `ivjax` that start each unfinished run as a job of its own."""
    stem = re.sub(r"[^a-z0-9]+", "-", sweep.folder.absolute().name.lower()).strip("-")
    # Kubernetes and Slurm names of ours begin with a letter (`launch.target.check_name`).
    stem = (stem if stem[:1].isalpha() else f"sweep-{stem}")[:_LONGEST].rstrip("-")
    trials = sweep.trials()
    return [
        # The number keeps the names apart: those of runs are too long for a cluster.
        ("launch", where, "--target", target, "--set", f"name={stem}-{number}")
        + ("--out", str(sweep.folder / "jobs" / trials[number].name), *command)
        for number, command in train_commands(sweep).items()
    ]


def launch_all(sweep: SweepFolder, where: str, target: str, say: Say) -> int:
    """Starts one job for each unfinished run. Returns 1 if a job could not be started, else 0."""
    sweep.check()
    commands = launch_commands(sweep, where, target)
    sweep.write()
    failed = 0
    for command in commands:
        say(f"$ {shown(command)}")
        # As commands of their own, so that one launch that fails does not end the others.
        failed += subprocess.run([sys.executable, "-m", "ivjax", *command], check=False).returncode != 0
    say(f"when jobs are done: {shown(('sweep', '--table-only', '--workdir', str(sweep.folder)))}")
    return int(failed > 0)


def shown(command: Sequence[str]) -> str:
    """Returns a command as a user would type it."""
    return shlex.join(["ivjax", *command])


def _train(sweep: SweepFolder, trial: Trial) -> Command:
    return "train", sweep.config, *trial.overrides, "--workdir", str(sweep.run_folder(trial))
