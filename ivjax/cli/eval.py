"""`ivjax eval`."""

import argparse
from pathlib import Path

from ivjax.cli.common import add_command, add_job, add_model, join_job, note, pair
from ivjax.evals.suites import SUITES
from ivjax.evals.suites.flags import add_suite_flags, check_owner, suite_asked

_EXAMPLES = (
    "ivjax eval runs/tiny --suite zeroshot --data shards/held_out --attribute shape",
    "ivjax eval runs/stage2 --suite retrieval --data shards/held_out --rerank 128",
    "ivjax eval runs/stage2_sound --suite retrieval --data shards/held_out --medium audio",
    "ivjax eval runs/stage1 --suite probe --train shards/demo --data shards/held_out --attribute colour",
    "ivjax eval runs/tuned --suite classify --data k400/test.csv --videos k400 --clips 4 --crops 3",
    "ivjax eval runs/chat --suite mcqa --data MVBench/json --videos MVBench/video --out mvbench.json",
)


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = (
        "Test a model without training it further: retrieval of clips or sounds, multiple choice, questions "
        "about videos, zero-shot recognition, a linear probe of its features, classes from several views, "
        "questions to a dialogue model."
    )
    parser = add_command(commands, "eval", about, "\n  ".join(_EXAMPLES))
    parser.add_argument(
        "weights",
        metavar="WEIGHTS|RUN",
        help="a weights file, or a run's folder; of a probe also PATH#BRANCH",
    )
    add_suite_flags(parser)
    add_model(parser)
    _add_data(parser)
    parser.add_argument(
        "--fsdp", type=int, default=1, metavar="N", help="spread the parameters over N devices (default 1)"
    )
    add_job(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="store the result as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.set_defaults(run=_eval)


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("test set")
    data.add_argument("--data", required=True, help="a corpus folder, or an annotation file")
    data.add_argument("--kind", default="auto", help="the annotations' format (default: recognised)")
    data.add_argument("--videos", help="the folder of the annotations' videos")
    data.add_argument(
        "--set", nargs="+", default=[], type=pair, metavar="name=value", help="options of the annotations"
    )


def _eval(options: argparse.Namespace) -> int:
    suite = suite_asked(options)
    if options.tokenizer is not None:
        check_owner(type(suite), "--tokenizer", [name for name, s in SUITES.items() if s.has_tokenizer])
    # Imported after the options are checked: jax takes a second, and a typing error should show at once.
    from ivjax.evals.items import EvalData
    from ivjax.evals.running import run_on_weights

    data = EvalData(options.data, options.kind, options.videos, dict(options.set))
    suite = suite.beside(options.out) if options.out else suite
    first = join_job(options)
    result = run_on_weights(
        suite, data, options.weights, options.preset, options.tokenizer, options.fsdp, note
    )
    if first:
        print(result.json() if options.json else result.table(), flush=True)
        if options.out:
            result.write(options.out)
    return 0
