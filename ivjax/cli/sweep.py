"""`ivjax sweep`."""

import argparse
from pathlib import Path

from ivjax.cli.common import CONFIG_HELP, add_command, folder, note, say
from ivjax.errors import UserError


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = "Train a config with several values of its settings, and compare. Run it again to continue."
    example = "ivjax sweep stage1_tiny schedule.peak=1e-3,3e-3 batch=8,16 --workdir runs/sweep --jobs 2"
    parser = add_command(commands, "sweep", about, example)
    parser.add_argument("config", nargs="?", help=CONFIG_HELP)
    parser.add_argument(
        "overrides", nargs="*", metavar="path=v1,v2", help="overrides; all combinations of them"
    )
    parser.add_argument("--workdir", type=folder, required=True, help="the folder of the sweep")
    parser.add_argument(
        "--zip", action="store_true", help="walk the lists together instead of combining them"
    )
    parser.add_argument(
        "--list", type=Path, metavar="FILE.py", help="a file with runs = [(override, ...), ...]"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each in a process (CPUs only)")
    parser.add_argument(
        "--force", action="store_true", help="start even if a run will not fit into the memory"
    )
    parser.add_argument("--metric", help="what to sort by (default eval/loss, or loss)")
    parser.add_argument("--highest", action="store_true", help="the metric's largest value is the best")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--dry-run", action="store_true", help="show runs and memory; start nothing")
    only.add_argument("--table-only", action="store_true", help="compare what is there; start nothing")
    only.add_argument("--print-commands", action="store_true", help="show one command per run; start nothing")
    only.add_argument("--launch", metavar="WHERE", help="start one job per run: slurm, tpu-vm, gke, skypilot")
    parser.add_argument("--target", metavar="FILE", help="with --launch: the target of `ivjax launch`")
    parser.set_defaults(run=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    from ivjax.sweep.driver import SweepOptions, preview, report, run_sweep
    from ivjax.sweep.remote import launch_all, shown, train_commands
    from ivjax.sweep.results import Ranking
    from ivjax.sweep.sweep_folder import SweepFolder, read_sweep_folder
    from ivjax.sweep.trials import combinations

    if options.config:
        runs = combinations(options.overrides, options.zip, options.list)
        sweep = SweepFolder(options.config, tuple(runs), options.workdir)
    elif options.table_only:
        sweep = read_sweep_folder(options.workdir)
    else:
        raise UserError("a sweep needs a config: ivjax sweep CONFIG path=v1,v2 --workdir DIR")
    ranking = Ranking(options.metric, options.highest)
    how = SweepOptions(options.jobs, options.force)
    if not options.table_only:
        sweep.experiments(note)
    if options.dry_run:
        print(preview(sweep, how))
    elif options.print_commands:
        sweep.check()
        print("\n".join(map(shown, train_commands(sweep).values())))
    elif options.table_only:
        sweep.check()
        print(report(sweep, ranking))
    elif options.launch:
        if options.target is None:
            raise UserError(f"--launch {options.launch} needs --target FILE; see ivjax launch --help")
        return launch_all(sweep, options.launch, options.target, say)
    else:
        return run_sweep(sweep, how, ranking, say)
    return 0
