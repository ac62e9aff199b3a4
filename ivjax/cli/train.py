"""`ivjax train`."""

import argparse
from typing import TYPE_CHECKING

from ivjax.cli.common import add_command, add_config, add_job, join_job, note, place, say
from ivjax.errors import UserError

if TYPE_CHECKING:
    from ivjax.experiment.experiment import Experiment


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = "Train a config; run it again to continue."
    parser = add_command(
        commands, "train", about, "ivjax train stage1_tiny optimizer.decay=0.1 --workdir runs/tiny"
    )
    add_config(parser)
    parser.add_argument(
        "--workdir",
        type=place,
        metavar="RUN",
        help="the run folder, on a disk that all hosts share, or in a bucket: gs://BUCKET/RUN",
    )
    parser.add_argument("--verbose", action="store_true", help="show the table of all parameters")
    parser.add_argument("--print", action="store_true", help="show the resolved config, and exit")
    parser.add_argument(
        "--options",
        nargs="?",
        const="",
        metavar="PATH",
        help="list the options below a path, such as stage (default: all), with what each may be; and exit",
    )
    add_job(parser)
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from ivjax.experiment.files import load_experiment

    experiment = load_experiment(options.config, options.overrides, note)
    if options.print:
        _print(options.config, experiment)
        return 0
    if options.options is not None:
        from ivjax.experiment.option_listing import options_below

        print("\n".join(option.text() for option in options_below(experiment, options.options)))
        return 0
    if options.workdir is None:
        raise UserError("a run needs a folder: add --workdir RUN")
    # Before the loop is imported: jax counts devices once, and after that no job can be joined.
    join_job(options)
    from ivjax.train.loop import train

    return train(experiment, options.workdir, say, verbose=options.verbose)


def _print(config: str, experiment: "Experiment") -> None:
    """The resolved experiment, what differs from the config file's own, and the variants of the file."""
    from ivjax.experiment.files import load_experiment, parse_name, variants_of
    from ivjax.experiment.listing import diff, leaves, resolved_text

    file = parse_name(config).file
    changed = diff(leaves(load_experiment(file)), leaves(experiment))
    print(resolved_text(experiment))
    print("\n".join([f"against {file}:", *(changed or ["no change"])]))
    if variants := variants_of(file):
        print(f"\nvariants of {file}: {', '.join(variants)}")
