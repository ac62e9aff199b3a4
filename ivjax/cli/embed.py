"""`ivjax embed`."""

import argparse
from pathlib import Path
from typing import Any

from ivjax.cli.common import add_command, add_model, note


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = (
        "Embed videos by any model with a video tower, their sound by a model of stage 2 that hears, or "
        "captions by a pair of towers, into one .npz file, which `ivjax search` searches."
    )
    example = "\n  ".join(
        (
            "ivjax embed videos/ --weights runs/tiny --window 8 --stride 4 --out index.npz",
            "ivjax embed videos/ --weights videomae_g.pth --tokens --mean --float16 --out features.npz",
            "ivjax embed --moments charades_sta_test.txt --videos Charades_v1 --weights clip.safetensors "
            "--out features",
            "ivjax embed videos/ bark.wav --weights runs/stage2_sound --medium audio --out sounds.npz",
        )
    )
    parser = add_command(commands, "embed", about, example)
    parser.add_argument(
        "videos", nargs="*", metavar="VIDEO", help="videos, folders, globs, or corpus folders"
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="WEIGHTS|RUN",
        help="a weights file, or a run's folder, of a tower, student, classifier or pair of towers; for "
        "videos also PATH#BRANCH",
    )
    add_model(parser)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the .npz file to write, or the folder of --moments",
    )
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="windows at a time (default 16)")
    _add_videos(parser)
    texts = parser.add_argument_group("captions instead of videos")
    texts.add_argument("--text", action="append", default=[], metavar="WORDS", help="a caption; repeatable")
    texts.add_argument("--texts", type=Path, metavar="FILE", help="a file of captions, one a line")
    moments = parser.add_argument_group("features for heads that find moments, instead of one file")
    moments.add_argument(
        "--moments",
        metavar="FILE",
        help="sentences and when they are true (charades_sta_test.txt): a file of features for each video, a "
        "row a second (--window for another step), and for each sentence",
    )
    moments.add_argument("--videos", dest="root", metavar="FOLDER", help="where their videos are")
    parser.set_defaults(run=_embed)


def _add_videos(parser: argparse.ArgumentParser) -> None:
    videos = parser.add_argument_group("videos")
    videos.add_argument(
        "--window", type=float, metavar="SECONDS", help="embed parts this long (default: each video whole)"
    )
    videos.add_argument(
        "--stride", type=float, metavar="SECONDS", help="from one window to the next (default: its length)"
    )
    videos.add_argument(
        "--medium",
        choices=("video", "audio", "both"),
        default="video",
        help="what of each part: the clip, its sound, or both together; sound needs a model of stage 2 that "
        "hears, and files of sound will do for it (default video)",
    )
    vector = videos.add_mutually_exclusive_group()
    vector.add_argument(
        "--pooled",
        dest="feature",
        action="store_const",
        const="pooled",
        help="keep the vector that the model pools (default, where its pooling was trained)",
    )
    vector.add_argument(
        "--mean", dest="feature", action="store_const", const="mean", help="keep the mean of its patches"
    )
    videos.add_argument(
        "--tokens",
        action="store_true",
        help="keep the states of all tokens; with --pooled or --mean beside that vector, else alone",
    )
    videos.add_argument("--float16", action="store_true", help="store the tokens in half the space")
    videos.add_argument(
        "--threads", type=int, metavar="N", help="threads that decode (default: one per core)"
    )
    videos.add_argument(
        "--skip-broken", action="store_true", help="exit with status 0 even if some videos are broken"
    )


def _embed(options: argparse.Namespace) -> int:
    from ivjax.embed.embed_videos import EmbedOptions
    from ivjax.embed.embedding_job import EmbeddingJob, run_job
    from ivjax.embed.windows import Windowing
    from ivjax.errors import UserError

    job = EmbeddingJob(
        tuple(options.videos),
        tuple(options.text),
        options.texts,
        options.out,
        options.weights,
        options.preset,
        options.tokenizer,
        EmbedOptions(
            Windowing(options.window or (1.0 if options.moments else None), options.stride),
            options.batch,
            options.feature,
            options.tokens,
            options.float16,
            options.threads,
            options.medium,
        ),
    )
    told = ""
    if options.moments:
        outcome, sentences = _moments(options, job)
        told = f", and {sentences} sentences"
    elif options.root:
        raise UserError("--videos is the folder of the videos of --moments FILE; name videos without it")
    else:
        outcome = run_job(job, note)
    for clip in outcome.broken:
        note(f"  {clip}")
    print(f"{options.out}: {outcome}{told}")
    # Broken videos give a status that scripts notice, though the index of the others is written.
    return 1 if outcome.broken and not options.skip_broken else 0


def _moments(options: argparse.Namespace, job: Any) -> tuple[Any, int]:
    """Returns what came of the videos of a list of moments, and how many sentences there are."""
    from ivjax.embed.moment_features import export_moments
    from ivjax.errors import UserError

    others = options.videos or options.text or options.texts or options.tokens or options.feature
    if others or options.medium != "video":
        raise UserError("--moments names its own videos and texts, and embeds clips; leave out the others")
    return export_moments(options.moments, options.root, job, note)
