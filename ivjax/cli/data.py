"""`ivjax data`: makes, builds and inspects corpora."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ivjax.cli.common import add_command, folder, pair, say
from ivjax.errors import UserError
from ivjax.experiment.bucket_files import is_bucket

if TYPE_CHECKING:
    from ivjax.data_pipelines.build.clip_recipe import WindowRule


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `data`."""
    about = "Make, build and inspect corpora."
    data = add_command(commands, "data", about, "ivjax data demo demo --clips 1000")
    what = data.add_subparsers(dest="what", required=True)
    for add_one in (
        _add_demo,
        _add_build,
        _add_validate,
        _add_stats,
        _add_compare,
        _add_show,
        _add_tokenizer,
    ):
        add_one(what)


def _add_demo(what: argparse._SubParsersAction) -> None:
    about = (
        "Draw videos of moving shapes with captions, questions and answers, to try things out and for tests. "
        "With --sounds events, each motion is heard; with --needles, long videos with one odd scene to find."
    )
    demo = add_command(what, "demo", about, "ivjax data demo demo --clips 1000 --seed 0")
    demo.add_argument("out", type=Path, help="the folder to make")
    demo.add_argument("--clips", type=int, default=1000, help="clips to train on (default 1000)")
    demo.add_argument("--held-out", type=int, help="clips to test on (default: a tenth)")
    demo.add_argument("--seed", type=int, default=0, help="equal seeds give equal bytes (default 0)")
    demo.add_argument(
        "--longest",
        type=float,
        metavar="SECONDS",
        help="no clip lasts longer, and none less than 2 s (default: 2 to 20 s)",
    )
    demo.add_argument(
        "--scenes",
        choices=("any", "pairs"),
        default="any",
        help="one to three groups of shapes in a clip (default), or always two, one after the other: no "
        "single frame tells which is the first",
    )
    demo.add_argument(
        "--sounds",
        choices=("tones", "events", "none"),
        default="tones",
        help="a tone now and then that means nothing (default), or a sound of each event by its motion, with "
        "captions of what is heard, or none; the same pictures",
    )
    demo.add_argument("--needles", type=int, metavar="N", help="draw N long videos, and no clips")
    demo.add_argument("--frames", type=int, default=1000, help="frames of a long video (default 1000)")
    demo.add_argument(
        "--hops", type=int, default=1, help="odd scenes of a long video, in a chain (default 1)"
    )
    demo.add_argument("--train", action="store_true", help="long videos to train on, and not to test on")
    demo.add_argument("--workers", type=int, help="processes (default: one per core)")
    demo.set_defaults(run=_demo)


def _add_build(what: argparse._SubParsersAction) -> None:
    about = (
        "Cut, filter and encode the clips of an annotation file into shards; run it again to continue. "
        "Options by path: recipe.short_side=256 recipe.encoding.gop=24 recipe.audio=true "
        "filters.overlap=0.5 shard_clips=1000 ..."
    )
    example = "ivjax data build demo/annotations.jsonl shards/demo --videos demo/videos recipe.short_side=96"
    build = add_command(what, "build", about, example)
    build.add_argument(
        "source",
        help="an annotation file, a folder, tars, or a dataset of the Hugging Face Hub on this machine",
    )
    build.add_argument("out", type=_corpus, help="the corpus folder")
    build.add_argument("overrides", nargs="*", metavar="path=value", help="options by dotted path")
    build.add_argument("--kind", default="auto", help="the source's format (default: recognised)")
    build.add_argument("--videos", help="where the videos lie")
    build.add_argument(
        "--classes",
        metavar="FILE|CORPUS",
        help="class names in the order of their numbers: a name a line, or a corpus's (default: sorted)",
    )
    build.add_argument(
        "--set",
        nargs="+",
        default=[],
        type=pair,
        metavar="name=value",
        help="options of the source, such as split=train (docs/data.md)",
    )
    build.add_argument(
        "--min-score", nargs="+", default=[], type=pair, metavar="name=value", help="lowest scores to keep"
    )
    build.add_argument("--draw", type=int, metavar="N", help="diversity sampling: keep N rows")
    build.add_argument(
        "--draw-method", choices=("original", "streaming"), default="original", help="method of the draw"
    )
    build.add_argument("--shots", action="store_true", help="split rows where the camera cuts")
    build.add_argument(
        "--window", type=float, metavar="SECONDS", help="cut rows, or their shots, into windows this long"
    )
    build.add_argument(
        "--stride", type=float, metavar="SECONDS", help="from window to window (default: no overlap, no gap)"
    )
    build.add_argument("--engine", choices=("pool", "beam"), default="pool", help="what runs the build")
    build.add_argument("--runner", default="DirectRunner", help="Beam's runner")
    build.add_argument("--beam", nargs="+", default=[], metavar="name=value", help="Beam's pipeline options")
    build.add_argument("--overwrite", action="store_true", help="replace another corpus in the folder")
    build.set_defaults(run=_here(_build))


def _add_validate(what: argparse._SubParsersAction) -> None:
    about = "Check a corpus: manifest, hashes, records, duplicates, decoding. One line for each fault."
    validate = add_command(what, "validate", about, "ivjax data validate shards/demo --decode all")
    validate.add_argument("corpus", type=_corpus, help="the corpus folder")
    validate.add_argument("--decode", default="64", help="how many clips to decode, or all (default 64)")
    validate.set_defaults(run=_here(_validate))


def _add_stats(what: argparse._SubParsersAction) -> None:
    about = "Durations, resolutions, frame rates and caption lengths of a corpus."
    stats = add_command(what, "stats", about, "ivjax data stats shards/demo --png stats.png")
    stats.add_argument("corpus", type=_corpus, help="the corpus folder")
    stats.add_argument("--json", action="store_true", help="print JSON")
    stats.add_argument("--png", type=Path, help="draw histograms into this file")
    stats.set_defaults(run=_here(_stats))


def _add_compare(what: argparse._SubParsersAction) -> None:
    about = (
        "Compare two corpora clip by clip: annotations, times, pictures, bytes. Exit status 0 if they hold "
        "the same clips with the same annotations; media bytes depend on the video libraries' versions."
    )
    compare = add_command(what, "compare", about, "ivjax data compare shards/demo /mnt/other/shards/demo")
    compare.add_argument("corpus", type=_corpus, help="a corpus folder")
    compare.add_argument("other", type=_corpus, help="another one")
    compare.add_argument("--json", action="store_true", help="print JSON")
    compare.set_defaults(run=_here(_compare))


def _add_show(what: argparse._SubParsersAction) -> None:
    about = "A contact sheet of some clips with their captions."
    show = add_command(what, "show", about, "ivjax data show shards/demo --n 8 --png sheet.png")
    show.add_argument("corpus", type=_corpus, help="the corpus folder")
    show.add_argument("--n", type=int, default=8, help="clips (default 8)")
    show.add_argument("--png", type=Path, default=Path("sheet.png"), help="the file (default sheet.png)")
    show.add_argument("--seed", type=int, help="draw the clips (default: spread over the corpus)")
    show.add_argument("--font", type=Path, help="a TrueType file, for scripts such as Chinese")
    show.set_defaults(run=_here(_show))


def _add_tokenizer(what: argparse._SubParsersAction) -> None:
    example = "ivjax data tokenizer train shards/demo demo.model --size 400"
    tokenizer = add_command(what, "tokenizer", "Make a vocabulary.", example)
    action = tokenizer.add_subparsers(dest="action", required=True)
    train = add_command(
        action,
        "train",
        "Train a SentencePiece model on the captions of a corpus, or on its conversations.",
        example,
    )
    train.add_argument("corpus", type=_corpus, help="the corpus folder")
    train.add_argument("out", type=Path, help="the model file to write")
    train.add_argument("--size", type=int, default=8000, help="pieces (default 8000)")
    train.set_defaults(run=_here(_train_tokenizer))


def _corpus(text: str) -> Path | str:
    """Parses the name of a corpus folder; an address, which `ivjax launch` mounts, stays a text."""
    return text if is_bucket(text) else folder(text)


def _here(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """What runs a command on folders of this machine."""

    def run_here(options: argparse.Namespace) -> int:
        for value in vars(options).values():
            if isinstance(value, str) and is_bucket(value):
                raise UserError(f"{value} is in a bucket, which training and evals alone read; mount it")
        return run(options)

    return run_here


def _demo(options: argparse.Namespace) -> int:
    from ivjax.data_pipelines.demo.demo_corpus import Needles, make_demo, make_needles
    from ivjax.data_pipelines.demo.demo_video import DemoKind

    if options.needles is not None:
        needles = Needles(options.needles, options.frames, options.hops, options.train)
        make_needles(options.out, needles, options.seed, options.workers, say)
        return 0
    kind = DemoKind(options.sounds, options.longest, options.scenes)
    make_demo(options.out, options.clips, options.seed, options.held_out, options.workers, say, kind)
    return 0


def _build(options: argparse.Namespace) -> int:
    from ivjax.data_pipelines.build.build_corpus import build
    from ivjax.data_pipelines.build.clip_recipe import ClipRecipe
    from ivjax.data_pipelines.build.options import BuildOptions, Draw, Filters
    from ivjax.data_pipelines.video.shots import ShotRule
    from ivjax.experiment.overrides import apply_overrides

    scores = {name: _number(value) for name, value in options.min_score}
    plan = BuildOptions(
        source=options.source,
        out=options.out,
        kind=options.kind,
        videos=options.videos,
        classes=options.classes,
        source_options=dict(options.set),
        recipe=ClipRecipe(shots=ShotRule() if options.shots else None, windows=_windows(options)),
        filters=Filters(min_scores=scores),
        draw=None if options.draw is None else Draw(options.draw, options.draw_method),
        engine=options.engine,
        runner=options.runner,
        beam_options=tuple(f"--{option}" for option in options.beam),
        overwrite=options.overwrite,
    )
    print(build(apply_overrides(plan, options.overrides), say).text())
    return 0


def _windows(options: argparse.Namespace) -> "WindowRule | None":
    from ivjax.data_pipelines.build.clip_recipe import WindowRule

    if options.window is None and options.stride is not None:
        raise UserError("--stride needs --window SECONDS, the length of a window")
    return None if options.window is None else WindowRule(options.window, options.stride)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{text!r} is not a number") from None


def _clips(text: str) -> int:
    # A number of a billion clips is as good as all, and Python reads none of thousands of digits.
    if not text.isdecimal() or len(text) > 9:
        raise UserError(f"--decode {text!r} is not a number of clips, nor all")
    return int(text)


def _validate(options: argparse.Namespace) -> int:
    from ivjax.data_pipelines.inspect.validate import validate
    from ivjax.data_pipelines.store.manifest import read_manifest

    decode = None if options.decode == "all" else _clips(options.decode)
    faults = validate(options.corpus, decode, say)
    for line in read_manifest(options.corpus).digest_lines():
        say(line)
    print(f"{options.corpus}: {f'{len(faults)} faults' if faults else 'in order'}")
    return 1 if faults else 0


def _stats(options: argparse.Namespace) -> int:
    from ivjax.data_pipelines.inspect.stats import collect

    stats = collect(options.corpus)
    print(json.dumps(stats.as_dict()) if options.json else stats.table())
    if options.png:
        stats.plot(options.png)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from ivjax.data_pipelines.inspect.compare import compare

    found = compare(options.corpus, options.other)
    print(found.as_json() if options.json else found.text())
    return 0 if found.alike else 1


def _show(options: argparse.Namespace) -> int:
    from ivjax.data_pipelines.inspect.show import contact_sheet

    contact_sheet(options.corpus, options.png, options.n, seed=options.seed, font=options.font)
    print(options.png)
    return 0


def _train_tokenizer(options: argparse.Namespace) -> int:
    from ivjax.data_pipelines.tokenizers.sentencepiece_training import train_on_corpus

    train_on_corpus(options.corpus, options.out, options.size)
    print(options.out)
    return 0
