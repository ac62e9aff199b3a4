"""`ivjax bench`."""

import argparse
from pathlib import Path

from ivjax.cli.common import CONFIG_HELP, add_command, note, say
from ivjax.errors import UserError


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    bench = add_command(
        commands, "bench", "Measure speed; prints JSON lines.", "ivjax bench step --config stage1_bench"
    )
    what = bench.add_subparsers(dest="what", required=True)
    about = "Time the train step of a config on batches made on the device: no data, no files."
    example = "ivjax bench step --config stage1_bench --against remat=none,full"
    step = add_command(what, "step", about, example)
    step.add_argument("--config", required=True, help=CONFIG_HELP)
    step.add_argument("overrides", nargs="*", metavar="path=value", help="overrides by dotted path")
    step.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="path=v1,v2",
        help="variants to compare with the first",
    )
    step.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar='"path=value ..."',
        help="overrides to compare with the config as it is; may be given several times",
    )
    step.add_argument("--runs", type=int, default=7, help="timed runs of each variant (default 7)")
    step.set_defaults(run=_bench_step)
    _add_data(what)
    _add_loss(what)
    _add_hico(what)
    _add_dialogue(what)
    _add_long(what)


def _add_data(what: argparse._SubParsersAction) -> None:
    about = (
        "Time reading of a corpus, next to bare decoding of the same frames and a plain sequential reader. "
        "Without a corpus, one of 320x240 clips with 64 frames is drawn first."
    )
    data = add_command(what, "data", about, "ivjax bench data shards/demo --workers 1 2")
    data.add_argument("corpus", type=Path, nargs="?", help="the corpus folder")
    data.add_argument("--frames", type=int, default=8, help="frames of each clip, spread over it (default 8)")
    data.add_argument("--side", type=int, default=224, help="side that frames are resized to (default 224)")
    data.add_argument("--clips", type=int, default=64, help="clips in each measurement (default 64)")
    data.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="worker counts (default 1 2)")
    data.add_argument("--records", type=int, default=0, help="also watch memory over this many clips")
    data.add_argument(
        "--cache-gib", type=float, default=0.0, help="also measure with a cache of decoded clips this large"
    )
    data.set_defaults(run=_bench_data)


def _add_loss(what: argparse._SubParsersAction) -> None:
    about = (
        "Measure time and memory of the contrastive loss, forward and backward, in its three forms: dense, "
        "gathered, ring. Memory is that of one device's temporaries in the compiled program."
    )
    loss = add_command(what, "loss", about, "ivjax bench loss --rows 4096 16384 --kind sigmoid")
    sizes = [1024, 4096, 16384, 65536]
    told = f"batch sizes (default {' '.join(map(str, sizes))})"
    loss.add_argument("--rows", type=int, nargs="+", default=sizes, help=told)
    loss.add_argument("--width", type=int, default=512, help="size of an embedding (default 512)")
    kinds = ("info_nce", "sigmoid")
    loss.add_argument("--kind", choices=kinds, default="info_nce", help="the loss (default info_nce)")
    loss.add_argument("--devices", type=int, help="devices that share the batch (default all)")
    _add_limits(loss)
    loss.set_defaults(run=_bench_loss)


def _add_hico(what: argparse._SubParsersAction) -> None:
    about = (
        "Time merging of tokens (HiCo) beside a form that merges all tokens at every step as the originals "
        "do, the products of its scores alone, and average pooling; forward, and forward with backward."
    )
    hico = add_command(what, "hico", about, "ivjax bench hico --sizes 8,1024,4096,32 --dtypes bfloat16")
    hico.add_argument(
        "--sizes",
        nargs="+",
        metavar="CLIPS,TOKENS,WIDTH,HEADS",
        help="what is merged (default 1,1024,1024,16 8,1024,1024,16 8,1024,4096,32 64,1024,4096,32)",
    )
    hico.add_argument("--target", type=int, default=64, help="tokens that are left of a clip (default 64)")
    dtypes = ("float32", "bfloat16")
    hico.add_argument(
        "--dtypes", nargs="+", choices=dtypes, default=dtypes, help="of the tokens (default both)"
    )
    _add_limits(hico)
    hico.set_defaults(run=_bench_hico)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """Adds how long forms are timed, and which are too large for it."""
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each form, at most (default 5)")
    parser.add_argument(
        "--seconds", type=float, default=30, help="time for each form and size, at most (default 30)"
    )
    parser.add_argument(
        "--limit-gib", type=float, help="larger forms are only compiled (default: half of the free memory)"
    )


def _add_dialogue(what: argparse._SubParsersAction) -> None:
    about = (
        "Time training on dialogue, forward and backward, with HiCo and without it: tokens/s, MFU, the share "
        "of padding, and the shares of vision tower, bridge and language model. Conversations are drawn."
    )
    example = "ivjax bench dialogue --config dialogue_tiny batch=4"
    dialogue = add_command(what, "dialogue", about, example)
    dialogue.add_argument("--config", required=True, help=CONFIG_HELP)
    dialogue.add_argument("overrides", nargs="*", metavar="path=value", help="overrides by dotted path")
    dialogue.add_argument("--runs", type=int, default=5, help="timed runs of each part, at most (default 5)")
    dialogue.add_argument(
        "--seconds", type=float, default=30, help="time for each part, at most (default 30)"
    )
    dialogue.add_argument(
        "--limit-gib", type=float, help="larger steps are only compiled (default: half of the free memory)"
    )
    dialogue.set_defaults(run=_bench_dialogue)


def _add_long(what: argparse._SubParsersAction) -> None:
    about = (
        "Time answering about long videos, with HiCo and without it: decoding, vision and merging, prefill, "
        "new tokens, and the memory of the process. Parameters are random; the video is drawn frame by frame "
        "unless one is given."
    )
    long = add_command(what, "long", about, "ivjax bench long --frames 1000 10000 --video needle.mp4")
    long.add_argument(
        "--frames", type=int, nargs="+", default=[256, 1000], metavar="N", help="frames (default 256 1000)"
    )
    long.add_argument("--video", metavar="FILE", help="a video whose frames are read, spread evenly")
    long.add_argument("--config", help=f"{CONFIG_HELP}: its model (default: a tiny one, 16 tokens a frame)")
    long.add_argument("overrides", nargs="*", metavar="path=value", help="overrides by dotted path")
    long.add_argument("--clips", type=int, default=8, help="clips that are encoded at a time (default 8)")
    long.add_argument("--new", type=int, default=16, help="tokens that are generated (default 16)")
    long.add_argument("--chunk", type=int, default=1024, help="prompt tokens at a time (default 1024)")
    long.add_argument(
        "--unmerged-frames",
        type=int,
        default=1000,
        metavar="N",
        help="longer videos are not read without HiCo (default 1000)",
    )
    long.set_defaults(run=_bench_long)


def _bench_step(options: argparse.Namespace) -> int:
    from ivjax.bench.step_speed import bench_step
    from ivjax.experiment.files import load_experiment

    if options.against and options.variant:
        raise UserError("--against and --variant exclude each other; give one of them")
    experiment = load_experiment(options.config, options.overrides, note)
    for line in bench_step(experiment, options.against, options.runs, options.variant):
        say(line)
    return 0


def _bench_data(options: argparse.Namespace) -> int:
    from ivjax.bench.data import ClipShape, bench_data

    wanted = ClipShape(options.frames, options.side)
    lines = bench_data(
        options.corpus, wanted, options.clips, options.workers, options.records, options.cache_gib
    )
    for line in lines:
        say(line)
    return 0


def _bench_loss(options: argparse.Namespace) -> int:
    from ivjax.bench.loss_speed import LossBench, bench_loss

    wanted = LossBench(
        tuple(options.rows),
        options.width,
        options.kind,
        options.devices,
        options.runs,
        options.seconds,
        options.limit_gib,
    )
    for line in bench_loss(wanted):
        say(line)
    return 0


def _bench_hico(options: argparse.Namespace) -> int:
    from ivjax.bench.hico_speed import SIZES, HicoBench, bench_hico, clip_sizes

    sizes = SIZES if options.sizes is None else clip_sizes(options.sizes)
    wanted = HicoBench(
        sizes, options.target, tuple(options.dtypes), options.runs, options.seconds, options.limit_gib
    )
    for line in bench_hico(wanted):
        say(line)
    return 0


def _bench_dialogue(options: argparse.Namespace) -> int:
    from ivjax.bench.dialogue_speed import DialogueBench, bench_dialogue
    from ivjax.experiment.files import load_experiment

    experiment = load_experiment(options.config, options.overrides, note)
    wanted = DialogueBench(experiment, options.runs, options.seconds, options.limit_gib)
    for line in bench_dialogue(wanted, note):
        say(line)
    return 0


def _bench_long(options: argparse.Namespace) -> int:
    from ivjax.bench.long_videos import LongBench, bench_long, long_bench_of
    from ivjax.experiment.files import load_experiment
    from ivjax.generate.decoding import Decoding

    if options.overrides and options.config is None:
        raise UserError("overrides change a config; name one with --config")
    decoding = Decoding(new=options.new, chunk=options.chunk)
    wanted = LongBench(
        tuple(options.frames),
        video=options.video,
        clips=options.clips,
        options=decoding,
        unmerged_frames=options.unmerged_frames,
    )
    if options.config is not None:
        wanted = long_bench_of(wanted, load_experiment(options.config, options.overrides, note))
    for line in bench_long(wanted):
        say(line)
    return 0
