"""Writes a demo corpus: videos in parallel, then the annotation files."""

import json
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from ivjax.data_pipelines.child import usable_cores
from ivjax.data_pipelines.demo.demo_video import DemoKind, DemoVideo
from ivjax.data_pipelines.demo.needle_video import NeedleVideo
from ivjax.drafts import clear_drafts, store
from ivjax.errors import UserError
from ivjax.progress import Progress, Say


class DrawnVideo(Protocol):
    """A video that is drawn from its number alone."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def clips(self) -> int:
        """How many clips it has."""
        ...

    def encode(self) -> bytes:
        """Returns the mp4."""
        ...


S = TypeVar("S", bound=DrawnVideo)

_CLIPS_PER_VIDEO = (3, 8)  # from, to (not reached)


@dataclass(frozen=True)
class Demo:
    """The files of a demo corpus, and its numbers of clips."""

    annotations: Path
    held_out: Path
    descriptions: Path
    held_out_descriptions: Path
    dialogues: Path
    held_out_dialogues: Path
    videos: Path
    clips: int
    held_out_clips: int


def make_demo(
    out: Path,
    clips: int,
    seed: int,
    held_out: int | None = None,
    workers: int | None = None,
    say: Say = print,
    kind: DemoKind = DemoKind(),
) -> Demo:
    """Makes `clips` clips to train on and `held_out` clips to test on (by default a tenth, at least one).

    The same call continues after an interruption. `workers` processes draw (None: one per core); the files
    do not depend on their number.
    """
    held_out = max(clips // 10, 1) if held_out is None else held_out
    _check(clips, held_out, seed)
    kind.check()
    training, testing = (
        list(_sources(seed, count, test, kind)) for count, test in ((clips, False), (held_out, True))
    )
    demo = Demo(
        out / "annotations.jsonl",
        out / "held_out.jsonl",
        out / "descriptions.jsonl",
        out / "held_out_descriptions.jsonl",
        out / "dialogues.jsonl",
        out / "held_out_dialogues.jsonl",
        out / "videos",
        clips,
        held_out,
    )
    missing = _missing(demo.videos, [*training, *testing])
    _draw(demo.videos, missing, clips + held_out, _processes(workers, len(missing)), say)
    for file, sources in ((demo.annotations, training), (demo.held_out, testing)):
        _write_rows(file, [row for source in sources for row in source.rows()])
    for file, sources in ((demo.descriptions, training), (demo.held_out_descriptions, testing)):
        _write_rows(file, [row for source in sources for row in source.descriptions()])
    for file, sources in ((demo.dialogues, training), (demo.held_out_dialogues, testing)):
        _write_rows(file, [row for source in sources for row in source.dialogues()])
    say(
        f"{clips:,} clips and {held_out:,} held out, in {len(training) + len(testing):,} videos, are in {out}"
    )
    return demo


@dataclass(frozen=True)
class Needles:
    """Options of long videos with an odd scene to find.

    Attributes:
        videos: how many.
        frames: frames of each, one a second.
        hops: odd scenes of each; more than one make a chain.
        train: whether they are to train on; those to test on are others.
    """

    videos: int
    frames: int = 1000
    hops: int = 1
    train: bool = False


def make_needles(
    out: Path, needles: Needles, seed: int, workers: int | None = None, say: Say = print
) -> Path:
    """Makes long videos, at depths that are spread evenly, and their questions; returns the annotation file.

    The same call continues after an interruption.
    """
    if needles.videos < 1 or seed < 0:
        raise UserError(f"needles must be at least 1 and seed at least 0, got {needles.videos} and {seed}")
    depths = np.linspace(0, 1, needles.videos) if needles.videos > 1 else np.array([0.5])
    # Even seeds of videos to train on, odd ones of those to test on.
    sources = [
        NeedleVideo(2 * seed + (not needles.train), number, needles.frames, float(depth), needles.hops)
        for number, depth in enumerate(depths)
    ]
    name = f"needles_{needles.frames}" + ("" if needles.hops == 1 else f"_{needles.hops}_hops")
    videos = out / name
    missing = _missing(videos, sources)
    _draw(videos, missing, len(sources), _processes(workers, len(missing)), say)
    rows = [source.training_row() if needles.train else source.row() for source in sources]
    file = out / f"{name}.jsonl"
    _write_rows(file, rows)
    say(f"{len(sources):,} videos of {needles.frames:,} frames are in {videos}, their questions in {file}")
    return file


def _check(clips: int, held_out: int, seed: int) -> None:
    if clips < 1 or held_out < 0:
        raise UserError(f"clips must be at least 1 and held_out at least 0, got {clips} and {held_out}")
    if seed < 0:
        raise UserError(f"seed must be at least 0, got {seed}")


def _sources(seed: int, clips: int, held_out: bool, kind: DemoKind) -> Iterator[DemoVideo]:
    """Yields videos of 3 to 7 clips; the last one has the remaining clips."""
    # A stream for each set, so that the size of one does not change the other.
    lengths = np.random.default_rng([seed, held_out])
    number = 0
    while clips > 0:
        length = min(int(lengths.integers(*_CLIPS_PER_VIDEO)), clips)
        yield DemoVideo(seed, number, length, held_out, kind)
        clips -= length
        number += 1


def _missing(videos: Path, sources: Sequence[S]) -> list[S]:
    """Returns the videos that are not there yet; removes what a killed run left half-written."""
    try:
        videos.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{videos} cannot be made: {error.strerror}; choose another folder") from None
    clear_drafts(videos)
    names = {f"{source.id}.mp4" for source in sources}
    there = {path.name for path in videos.glob("*.mp4")}
    if strangers := sorted(there - names):
        raise UserError(
            f"{videos} holds videos of something else, such as {strangers[0]}; choose an empty folder, "
            "or give the seed, the sounds and the numbers of clips that they were made with"
        )
    return [source for source in sources if f"{source.id}.mp4" not in there]


def _processes(workers: int | None, videos: int) -> int:
    return min(usable_cores() if workers is None else max(workers, 1), videos)


def _draw(videos: Path, sources: Sequence[DrawnVideo], clips: int, processes: int, say: Say) -> None:
    kept = clips - sum(source.clips for source in sources)
    with Progress(clips, "clips", say, done=kept) as progress:
        if processes <= 1:
            for source in sources:
                progress.advance(_write_video(videos, source))
            return
        # spawn: forking a process whose libraries have started threads can hang.
        with ProcessPoolExecutor(processes, get_context("spawn"), _follow_parent) as pool:
            drawing = [pool.submit(_write_video, videos, source) for source in sources]
            try:
                for done in as_completed(drawing):
                    progress.advance(done.result())
            except BrokenProcessPool:
                raise UserError(
                    "a process that drew videos was killed; run the same command again, "
                    f"{videos} keeps the finished ones"
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Leaves Ctrl-C to the parent, and ends a drawing process when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _write_video(videos: Path, source: DrawnVideo) -> int:
    """Writes one video atomically and returns its number of clips."""
    store(videos / f"{source.id}.mp4", source.encode())
    return source.clips


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    store(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
