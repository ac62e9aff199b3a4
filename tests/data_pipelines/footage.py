"""Source videos for tests of the builder: every frame carries its number as a bar code."""

import os
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ivjax.data_pipelines.build.build_corpus import build_rows
from ivjax.data_pipelines.build.build_report import Report
from ivjax.data_pipelines.build.clip_recipe import ClipRecipe
from ivjax.data_pipelines.build.options import BuildOptions
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.manifest import read_manifest
from ivjax.data_pipelines.store.records import Clip, unpack
from ivjax.data_pipelines.store.shards import Shards
from ivjax.data_pipelines.video.decode import probe, read_frames
from ivjax.data_pipelines.video.encode import Audio, Encoding, encode_video

WIDTH, HEIGHT = 96, 64
FAST = Encoding(preset="ultrafast")
QUICK = ClipRecipe(encoding=FAST)
_BITS = 8


def coded(number: int) -> np.ndarray:
    """A picture with `number` (below 256) in black and white bars: (H, W, 3) uint8."""
    bars = [230 if number >> bit & 1 else 20 for bit in range(_BITS)]
    return np.broadcast_to(np.repeat(np.uint8(bars), WIDTH // _BITS)[None, :, None], (HEIGHT, WIDTH, 3))


def number_of(picture: np.ndarray) -> int:
    """The number that a picture of any size carries."""
    # Every row carries it; a mean over millions of pixels takes a while.
    rows = picture[:: max(len(picture) // HEIGHT, 1)]
    bars = rows.mean(axis=(0, 2)).reshape(_BITS, -1).mean(axis=1)
    return sum(1 << bit for bit, level in enumerate(bars) if level > 125)


def numbers_of(payload: bytes) -> list[int]:
    """The numbers of all frames of a clip."""
    return [number_of(picture) for picture in read_frames(payload, range(probe(payload).frames))]


def write_video(path: Path, frames: int = 50, fps: int = 25, audio: Audio | None = None) -> str:
    """A video of a constant rate, with B-frames and a keyframe every 12 frames."""
    path.write_bytes(encode_video(map(coded, range(frames)), Fraction(fps), Encoding(gop=12), audio))
    return str(path)


def write_timed_video(
    path: Path,
    milliseconds: Sequence[int],
    codec: str = "libx264",
    base: Fraction = Fraction(1, 1000),
    **options,
) -> str:
    """A video whose frame k is shown from `milliseconds[k]` on; `options` are the encoder's."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, options={"g": "12", **options})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.time_base = video.codec_context.time_base = base
        for number, shown_from in enumerate(milliseconds):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(coded(number)), "rgb24")
            picture.pts, picture.time_base = round(shown_from / 1000 / base), base
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    return str(path)


def clips_of(folder: Path) -> list[Clip]:
    """All clips of a corpus, in order."""
    shards = Shards(folder, read_manifest(folder))
    clips = [unpack(shards[number]) for number in range(len(shards))]
    shards.close()
    return clips


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a corpus folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def some_rows(folder: Path, videos: int = 3, each: int = 4) -> list[SourceRow]:
    """`each` rows of half a second of each of a few videos, which are made if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for video in range(videos):
        path = folder / f"video{video:06d}.mp4"
        if not path.exists():
            write_video(path)
        rows += [
            SourceRow(
                f"v{video}c{n}", str(path), start=n / 4, end=n / 4 + 0.5, captions=(f"caption {video} {n}",)
            )
            for n in range(each)
        ]
    return rows


def build_small(rows: Sequence[object], out: Path, **options) -> Report:
    """Builds a small corpus with one process, in shards of five rows."""
    values = {"recipe": QUICK, "shard_clips": 5, "workers": 1}
    return build_rows(rows, BuildOptions("test", out, **(values | options)), lambda line: None)


def describe(clip: Clip) -> str:
    """A captioner."""
    return f"{clip.frames} frames of {clip.video}"


def describe_slowly(clip: Clip) -> list[str]:
    """A captioner that leaves time to interrupt."""
    time.sleep(0.05)
    return ["slow", *clip.captions]


def break_down(clip: Clip) -> str:
    """A captioner that stands in for a decoder: it crashes, hangs or raises on some clips."""
    if "crash" in clip.id:
        os.abort()
    if "hang" in clip.id:
        time.sleep(600)
    if "raise" in clip.id:
        raise ValueError("no words")
    return "fine"
