"""`ivjax ledger`."""

import argparse

from ivjax.cli.common import add_command, place


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = "Show where the time of a run went, over all its starts and processes."
    parser = add_command(commands, "ledger", about, "ivjax ledger runs/stage1")
    parser.add_argument(
        "run_folder", type=place, metavar="RUN", help="a run folder, or the address of one in a bucket"
    )
    parser.set_defaults(run=_ledger)


def _ledger(options: argparse.Namespace) -> int:
    from ivjax.experiment.buckets import local
    from ivjax.train.goodput import table, times_of

    print("\n".join(table(times_of(local(str(options.run_folder))))))
    return 0
