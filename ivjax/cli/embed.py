"""`ivjax embed`."""

import argparse
from pathlib import Path

from ivjax.cli.common import add_command, add_model, note


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = (
        "Embed videos by any model with a video tower, or captions by a pair of towers, into one .npz file. "
        "`ivjax search` reads what a pair of towers embedded."
    )
    example = "ivjax embed videos/ --weights runs/tiny --window 8 --stride 4 --out index.npz"
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
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .npz file to write")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="windows at a time (default 16)")
    _add_videos(parser)
    texts = parser.add_argument_group("captions instead of videos")
    texts.add_argument("--text", action="append", default=[], metavar="WORDS", help="a caption; repeatable")
    texts.add_argument("--texts", type=Path, metavar="FILE", help="a file of captions, one a line")
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
        "--tokens", action="store_true", help="keep the states of all tokens, not one embedding"
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

    job = EmbeddingJob(
        tuple(options.videos),
        tuple(options.text),
        options.texts,
        options.out,
        options.weights,
        options.preset,
        options.tokenizer,
        EmbedOptions(
            Windowing(options.window, options.stride),
            options.batch,
            options.tokens,
            options.float16,
            options.threads,
        ),
    )
    outcome = run_job(job, note)
    for clip in outcome.broken:
        note(f"  {clip}")
    print(f"{options.out}: {outcome}")
    # Broken videos give a status that scripts notice, though the index of the others is written.
    return 1 if outcome.broken and not options.skip_broken else 0
