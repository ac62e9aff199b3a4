"""The `ivjax` command: parse, call one function, print. No logic."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ivjax import __version__
from ivjax.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 2 for bad input."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("absl").setLevel(logging.ERROR)
    options = _parse(argv)
    try:
        return int(options.run(options))
    except UserError as error:
        print(f"ivjax {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses; overrides may stand before and after the options, which argparse alone does not allow."""
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    strange = [word for word in rest if word.startswith("-") or "=" not in word]
    if strange or (rest and not hasattr(options, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(strange or rest)}")
    if rest:
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ivjax", description="The InternVideo family in JAX.")
    parser.add_argument("--version", action="version", version=f"ivjax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_train(commands)
    _add_bench(commands)
    _add_launch(commands)
    return parser


def _add(
    commands: argparse._SubParsersAction, name: str, about: str, example: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", help="a config file (.py), or the name of a shipped one such as stage1_tiny"
    )
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="overrides by dotted path")


def _add_train(commands: argparse._SubParsersAction) -> None:
    about = "Train a config; run it again to continue."
    parser = _add(commands, "train", about, "ivjax train stage1_tiny optimizer.decay=0.1 --workdir runs/tiny")
    _add_config(parser)
    parser.add_argument(
        "--workdir", type=Path, help="the run folder; a shared one if there are several hosts"
    )
    parser.add_argument("--print", action="store_true", help="show the resolved config, and exit")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="process 0 of a job of several processes")
    parser.add_argument("--processes", type=int, help="processes of the job")
    parser.add_argument("--process", type=int, help="which of them this is, from 0")
    parser.set_defaults(run=_train)


def _add_bench(commands: argparse._SubParsersAction) -> None:
    bench = _add(commands, "bench", "Measure speed; JSON lines.", "ivjax bench step --config stage1_bench")
    what = bench.add_subparsers(dest="what", required=True)
    about = "Time the train step of a config on batches made on the device: no data, no files."
    example = "ivjax bench step --config stage1_bench --against remat=none,full"
    step = _add(what, "step", about, example)
    step.add_argument("--config", required=True, help="a config file, or the name of a shipped one")
    step.add_argument("overrides", nargs="*", metavar="path=value", help="overrides by dotted path")
    step.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="path=v1,v2",
        help="variants to compare, first against the rest",
    )
    step.add_argument("--runs", type=int, default=7, help="timed runs of each variant (default 7)")
    step.set_defaults(run=_bench_step)


def _add_launch(commands: argparse._SubParsersAction) -> None:
    launch = _add(
        commands, "launch", "Start a job.", "ivjax launch local --processes 2 train stage1_tiny ..."
    )
    where = launch.add_subparsers(dest="where", required=True)
    about = "Run an ivjax command in several processes on this machine."
    example = "ivjax launch local --processes 2 --devices 4 train stage1_tiny --workdir runs/two"
    local = _add(where, "local", about, example)
    local.add_argument("--processes", type=int, required=True, help="how many processes")
    local.add_argument("--devices", type=int, help="fake CPU devices for each process, for trying out a mesh")
    local.add_argument("arguments", nargs=argparse.REMAINDER, metavar="train ...", help="the command to run")
    local.set_defaults(run=_launch_local)


def _train(options: argparse.Namespace) -> int:
    from ivjax.config import diff, leaves, load_experiment, resolved_text
    from ivjax.overrides import apply_overrides

    original = load_experiment(options.config)
    experiment = apply_overrides(original, options.overrides)
    if options.print:
        print(resolved_text(experiment), end="")
        changed = diff(leaves(original), leaves(experiment))
        print("\n".join(["", f"against {options.config}:", *(changed or ["no change"])]))
        return 0
    if options.workdir is None:
        raise UserError("a run needs a folder: add --workdir RUN")
    from ivjax.train.distributed import Job, join

    join(Job(options.coordinator, options.processes, options.process))
    from ivjax.train.loop import train

    return train(experiment, options.workdir, lambda line: print(line, flush=True))


def _bench_step(options: argparse.Namespace) -> int:
    from ivjax.bench.step import bench_step
    from ivjax.config import load_experiment
    from ivjax.overrides import apply_overrides

    experiment = apply_overrides(load_experiment(options.config), options.overrides)
    for line in bench_step(experiment, options.against, options.runs):
        print(line, flush=True)
    return 0


def _launch_local(options: argparse.Namespace) -> int:
    from ivjax.launch.local import run_local

    if not options.arguments:
        raise UserError("launch local needs a command to run, for example: train stage1_tiny --workdir RUN")
    return run_local(options.arguments, options.processes, options.devices)


if __name__ == "__main__":
    sys.exit(main())
