"""`ivjax quickstart`."""

import argparse
from pathlib import Path

from ivjax.cli.common import add_command, say


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = (
        "Run all stages in miniature: drawn videos, two teachers, stages 1 to 3 with HiCo, what they know of "
        "held-out videos, and a page about it. The same command goes on where it was stopped."
    )
    parser = add_command(commands, "quickstart", about, "ivjax quickstart runs/quickstart")
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("quickstart"),
        help="folder for everything (default quickstart)",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="run a few steps of each, in two minutes: shows that everything works",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the corpus and of all runs (default 0)")
    parser.add_argument(
        "--verbose", action="store_true", help="show what each command prints, in place of a line for each"
    )
    parser.set_defaults(run=_quickstart)


def _quickstart(options: argparse.Namespace) -> int:
    from ivjax.quickstart.commands import FAST, WHOLE
    from ivjax.quickstart.walkthrough import quickstart

    scale = FAST if options.fast else WHOLE
    return quickstart(options.folder, scale, options.seed, say, options.verbose)
