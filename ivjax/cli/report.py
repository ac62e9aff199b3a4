"""`ivjax report`."""

import argparse
from pathlib import Path

from ivjax.cli.common import add_command, folder, note, place

_EXAMPLES = (
    "ivjax report runs/tiny",
    "ivjax report runs/tiny runs/masked --evals probe.json --out report",
    "ivjax report runs/sweep --no-model",
)


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = (
        "Write a page about one or several runs: curves, times, configs and what differs, evals, and "
        "pictures of clips, masks, merged tokens, hits and answers. It is one HTML file without a network."
    )
    parser = add_command(commands, "report", about, "\n  ".join(_EXAMPLES))
    parser.add_argument(
        "runs",
        metavar="RUN",
        type=place,
        nargs="+",
        help="run folders, also those of sweeps, runs in phases, and in buckets",
    )
    parser.add_argument(
        "--out",
        type=folder,
        metavar="FOLDER",
        help="where the page goes (default: RUN/report of the first run)",
    )
    parser.add_argument(
        "--evals",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="results of `ivjax eval --out`, beside those in the run folders",
    )
    parser.add_argument(
        "--no-model", action="store_true", help="leave out pictures that need checkpoints and corpora"
    )
    parser.add_argument(
        "--clips", type=int, default=3, metavar="N", help="clips of a run that are shown (default 3)"
    )
    parser.add_argument("--metric", help="what sweeps are sorted by (default eval/loss, or loss)")
    parser.add_argument("--highest", action="store_true", help="the metric's largest value is the best")
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from ivjax.experiment.buckets import local
    from ivjax.report.write_report import ReportOptions, write_report
    from ivjax.sweep.results import Ranking

    runs = [local(str(run)) for run in options.runs]
    ranking = Ranking(options.metric, options.highest)
    wanted = ReportOptions(tuple(options.evals), not options.no_model, options.clips, ranking)
    print(write_report(runs, options.out or runs[0] / "report", wanted, note))
    return 0
