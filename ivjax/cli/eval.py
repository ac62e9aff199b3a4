"""`ivjax eval`."""

import argparse
from pathlib import Path

from ivjax.cli.common import add_command, add_model, note, pair
from ivjax.evals.protocols import NAMES


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = "Test a model without training it further: retrieval, multiple choice, zero-shot naming."
    example = "ivjax eval runs/tiny --suite zeroshot --data shards/held_out --attribute shape"
    parser = add_command(commands, "eval", about, example)
    parser.add_argument("weights", metavar="WEIGHTS|RUN", help="a weights file, or a run's folder")
    parser.add_argument("--suite", choices=("retrieval", "zeroshot"), required=True, help="what is tested")
    add_model(parser)
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="clips at a time (default 32)")
    _add_data(parser)
    _add_scoring(parser)
    _add_naming(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="store the result as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.set_defaults(run=_eval)


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("test set")
    data.add_argument("--data", required=True, help="a corpus folder, or an annotation file")
    data.add_argument("--kind", default="auto", help="the annotations' format (default: recognised)")
    data.add_argument("--videos", help="where the annotations' videos lie")
    data.add_argument(
        "--set", nargs="+", default=[], type=pair, metavar="name=value", help="options of the annotations"
    )
    data.add_argument("--limit", type=int, metavar="N", help="only the first N clips")
    data.add_argument(
        "--broken", type=float, default=0.01, metavar="SHARE", help="clips that may fail (default 0.01)"
    )


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    scoring = parser.add_argument_group("scoring")
    scoring.add_argument("--protocol", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    scoring.add_argument(
        "--clips", type=int, default=1, metavar="N", help="parts of each video that are seen (default 1)"
    )
    scoring.add_argument(
        "--aggregate",
        choices=("embedding", "mean", "max", "logsumexp"),
        default="embedding",
        help="what several clips become: their mean embedding (default), or so much of their cosines",
    )
    scoring.add_argument("--dsl", action="store_true", help="dual softmax over all queries of the test")
    scoring.add_argument(
        "--dsl-scale",
        type=float,
        default=1.0,
        metavar="S",
        help="of cosines in it (default 1: the originals)",
    )
    scoring.add_argument(
        "--ties",
        choices=("expected", "originals"),
        help="retrieval: the place of a right answer among equal ones is its mean one (expected, the "
        "default), or the first from text to video (originals)",
    )
    scoring.add_argument("--temperature", type=float, metavar="T", help="multiple choice (default 0.01)")


def _add_naming(parser: argparse.ArgumentParser) -> None:
    naming = parser.add_argument_group("zero-shot naming")
    naming.add_argument("--attribute", metavar="A", help="name this attribute of the clips, not their label")
    naming.add_argument("--classes", type=Path, metavar="FILE", help="class names, one a line, or JSON")
    naming.add_argument(
        "--prompt", action="append", default=[], metavar="T", help='such as "a video of a {}"; repeatable'
    )


def _eval(options: argparse.Namespace) -> int:
    from ivjax.evals.embed import Setting
    from ivjax.evals.items import EvalData
    from ivjax.evals.opening import open_encoder
    from ivjax.evals.scores import Scoring
    from ivjax.evals.suites import Asked, suite_of

    data = EvalData(options.data, options.kind, options.videos, dict(options.set), options.limit)
    asked = Asked(
        options.suite,
        Scoring(options.aggregate, options.dsl, options.dsl_scale),
        options.protocol,
        options.ties,
        options.temperature,
        options.attribute,
        options.classes,
        tuple(options.prompt),
    )
    suite = suite_of(asked)
    encoder = open_encoder(options.weights, options.preset, options.tokenizer, options.batch)
    setting = Setting(encoder, data, options.weights, options.clips, options.batch, options.broken, say=note)
    result = suite(setting)
    print(result.json() if options.json else result.table(), flush=True)
    if options.out:
        result.write(options.out)
    return 0
