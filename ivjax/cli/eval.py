"""`ivjax eval`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ivjax.cli.common import add_command, add_model, note, pair
from ivjax.evals.suites.protocols import NAMES

if TYPE_CHECKING:
    from ivjax.evals.suites import Asked

_SUITES = ("retrieval", "zeroshot", "probe", "classify")
_EXAMPLES = (
    "ivjax eval runs/tiny --suite zeroshot --data shards/held_out --attribute shape",
    "ivjax eval runs/stage1 --suite probe --train shards/demo --data shards/held_out --attribute colour",
    "ivjax eval runs/tuned --suite classify --data k400/test.csv --videos k400 --clips 4 --crops 3",
)


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = (
        "Test a model without training it further: retrieval, multiple choice, zero-shot naming, a linear "
        "probe of its features, classes from several views."
    )
    parser = add_command(commands, "eval", about, "\n  ".join(_EXAMPLES))
    parser.add_argument(
        "weights",
        metavar="WEIGHTS|RUN",
        help="a weights file, or a run's folder; of a probe also PATH#BRANCH",
    )
    parser.add_argument("--suite", choices=_SUITES, required=True, help="what is tested")
    add_model(parser)
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="clips at a time (default 32)")
    _add_data(parser)
    _add_scoring(parser)
    _add_naming(parser)
    _add_probe(parser)
    _add_classify(parser)
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
    naming.add_argument(
        "--attribute", metavar="A", help="name (or probe) this attribute of the clips, not their label"
    )
    naming.add_argument("--classes", type=Path, metavar="FILE", help="class names, one a line, or JSON")
    naming.add_argument(
        "--prompt", action="append", default=[], metavar="T", help='such as "a video of a {}"; repeatable'
    )


def _add_probe(parser: argparse.ArgumentParser) -> None:
    probe = parser.add_argument_group("linear probe")
    probe.add_argument("--train", metavar="PATH", help="what it is fitted to, of the same kind as --data")
    probe.add_argument(
        "--features",
        choices=("pooled", "mean"),
        help="what the encoder pools (default, where it does), or the mean of its last tokens",
    )
    probe.add_argument(
        "--baseline", choices=("random", "none"), help="also probe random weights (default), or do not"
    )


def _add_classify(parser: argparse.ArgumentParser) -> None:
    classify = parser.add_argument_group("classification")
    classify.add_argument(
        "--crops", type=int, metavar="N", help="square windows along the longer side (default 1)"
    )
    classify.add_argument(
        "--sampling", choices=("kinetics", "ssv2", "ucf"), help="whose frames of a clip (default kinetics)"
    )
    classify.add_argument(
        "--predictions", type=Path, metavar="FILE", help="store what was said of each video, a JSON a line"
    )


def _eval(options: argparse.Namespace) -> int:
    from ivjax.evals.vectors import Setting
    from ivjax.evals.items import EvalData
    from ivjax.evals.suites import suite_of

    data = EvalData(options.data, options.kind, options.videos, dict(options.set), options.limit)
    suite = suite_of(_asked(options))
    model = suite.open(options.weights, options.preset, options.batch)
    setting = Setting(model, data, options.weights, options.clips, options.batch, options.broken, say=note)
    result = suite.score(setting)
    print(result.json() if options.json else result.table(), flush=True)
    if options.out:
        result.write(options.out)
    return 0


def _asked(options: argparse.Namespace) -> "Asked":
    from ivjax.evals.scoring.similarity import Scoring
    from ivjax.evals.suites import Asked

    return Asked(
        suite=options.suite,
        scoring=Scoring(options.aggregate, options.dsl, options.dsl_scale),
        protocol=options.protocol,
        ties=options.ties,
        temperature=options.temperature,
        attribute=options.attribute,
        classes=options.classes,
        prompts=tuple(options.prompt),
        tokenizer=options.tokenizer,
        train=options.train,
        features=options.features,
        baseline=options.baseline,
        crops=options.crops,
        sampling=options.sampling,
        predictions=options.predictions,
    )
