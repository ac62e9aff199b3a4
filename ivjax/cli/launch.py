"""`ivjax launch`."""

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ivjax.cli.common import add_command, note, pair, say
from ivjax.errors import UserError, nearest

if TYPE_CHECKING:
    from ivjax.launch.command import LaunchedCommand

Parse = Callable[[Sequence[str]], argparse.Namespace]  # reads a command line as `ivjax` does

_LAUNCHED = ("train", "sweep", "eval", "embed", "bench", "data", "convert")
_ABOUT = {
    "slurm": "Render a batch script and give it to sbatch.",
    "tpu-vm": "Render scripts that create TPU VMs, run on all of their workers and delete them; start them.",
    "gke": "Render a JobSet for Kubernetes, of one slice or several, and apply it (or go through xpk).",
    "skypilot": "Render a task file for SkyPilot and launch it as a managed job.",
}


def add(commands: argparse._SubParsersAction, parse: Parse) -> None:
    """Adds the command; `parse` reads a whole `ivjax` command line."""
    example = "ivjax launch gke --target v5p.toml --dry-run train stage1_1b --workdir gs://BUCKET/runs/1b"
    launch = add_command(commands, "launch", "Start a command here or on a cluster.", example)
    where = launch.add_subparsers(dest="where", required=True)
    about = "Run an ivjax command in several processes on this machine."
    example = "ivjax launch local --processes 2 --devices 4 train stage1_synthetic --workdir runs/two"
    local = add_command(where, "local", about, example)
    local.add_argument("--processes", type=int, required=True, help="how many processes")
    local.add_argument("--devices", type=int, help="fake CPU devices for each process, for trying out a mesh")
    local.add_argument(
        "--restarts", type=int, default=0, help="how often a job that failed is started again (default 0)"
    )
    _add_command_line(local)
    local.set_defaults(run=functools.partial(_launch_local, parse=parse))
    for kind in _ABOUT:
        _add_kind(where, kind, parse)
    about = "Run a command as clusters do on each host: status 75 says that it was stopped before its end."
    worker = add_command(where, "worker", about, "ivjax launch worker train stage1_1b --workdir /runs/1b")
    _add_command_line(worker)
    worker.set_defaults(run=_launch_worker)


def _add_kind(where: argparse._SubParsersAction, kind: str, parse: Parse) -> None:
    example = (
        f"ivjax launch {kind} --example > target.toml\n  ivjax launch {kind} --target target.toml --dry-run"
    )
    parser = add_command(where, kind, _ABOUT[kind], f"{example} train stage1_1b --workdir RUN")
    parser.add_argument("--target", type=Path, metavar="FILE", help="a TOML file that says where to run")
    parser.add_argument(
        "--set", type=pair, action="append", default=[], metavar="KEY=VALUE", help="a key of the target"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the files and commands, start nothing")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the files go (default jobs/NAME)")
    parser.add_argument("--example", action="store_true", help="print a target file to start from, and exit")
    _add_command_line(parser)
    parser.set_defaults(run=functools.partial(_launch, parse=parse))


def _add_command_line(parser: argparse.ArgumentParser) -> None:
    # REMAINDER: everything behind belongs to the launched command, also words that begin with a dash.
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="train ...", help="the command to run")


def _launch(options: argparse.Namespace, parse: Parse) -> int:
    from ivjax.launch.dispatch import launch
    from ivjax.launch.target import example

    if options.example:
        print(example(options.where), end="")
        return 0
    job = _job(_given(options), parse)
    return launch(options.where, job, options.target, options.set, options.out, options.dry_run, say, note)


def _job(words: Sequence[str], parse: Parse) -> "LaunchedCommand":
    """Returns a command line with what the machines will read in it."""
    from ivjax.launch.command import LaunchedCommand

    parsed = _parsed(words, parse)
    overrides = tuple(getattr(parsed, "overrides", ()))
    return LaunchedCommand(tuple(words), getattr(parsed, "config", None), overrides, vars(parsed))


def _parsed(words: Sequence[str], parse: Parse) -> argparse.Namespace:
    """Returns the command line as it will be parsed on the machines."""
    if words[0] not in _LAUNCHED:
        known = f"launch starts {', '.join(_LAUNCHED)}"
        raise UserError(f"{words[0]!r} cannot be launched ({known}){nearest(words[0], _LAUNCHED)}")
    return parse(words)


def _launch_local(options: argparse.Namespace, parse: Parse) -> int:
    from ivjax.launch.local import run_local

    words = _given(options)
    # Checked here once, or every process would say what is wrong.
    _job(words, parse).experiments()
    return run_local(words, options.processes, options.devices, options.restarts, note)


def _launch_worker(options: argparse.Namespace) -> int:
    from ivjax.launch.host_entry import run_on_host

    return run_on_host(_given(options))


def _given(options: argparse.Namespace) -> list[str]:
    if not options.arguments:
        raise UserError(
            f"launch {options.where} needs a command to run, such as train stage1_synthetic --workdir RUN"
        )
    return list(options.arguments)
