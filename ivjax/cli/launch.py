"""`ivjax launch`."""

import argparse

from ivjax.cli.common import add_command
from ivjax.errors import UserError


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    launch = add_command(
        commands, "launch", "Start a job.", "ivjax launch local --processes 2 train stage1_synthetic ..."
    )
    where = launch.add_subparsers(dest="where", required=True)
    about = "Run an ivjax command in several processes on this machine."
    example = "ivjax launch local --processes 2 --devices 4 train stage1_synthetic --workdir runs/two"
    local = add_command(where, "local", about, example)
    local.add_argument("--processes", type=int, required=True, help="how many processes")
    local.add_argument("--devices", type=int, help="fake CPU devices for each process, for trying out a mesh")
    local.add_argument("arguments", nargs=argparse.REMAINDER, metavar="train ...", help="the command to run")
    local.set_defaults(run=_launch_local)


def _launch_local(options: argparse.Namespace) -> int:
    from ivjax.launch.local import run_local

    if not options.arguments:
        raise UserError("launch local needs a command to run, such as train stage1_synthetic --workdir RUN")
    return run_local(options.arguments, options.processes, options.devices)
