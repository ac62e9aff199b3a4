"""Small corpora for tests: clips that say by their colours which clip and frame they are."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ivjax.data_pipelines.store.manifest import write_manifest
from ivjax.data_pipelines.store.records import Clip, pack
from ivjax.data_pipelines.store.shards import ShardWriter
from ivjax.data_pipelines.video.encode import Encoding, encode_video

FPS = 8
SIDE = 32


def picture(number: int, frame: int, side: int = SIDE) -> np.ndarray:
    """A frame whose upper half tells the clip and whose lower half tells the time: (side, side, 3) uint8."""
    colours = np.random.default_rng([number, 0]).integers(20, 236, (2, 3))
    image = np.empty((side, side, 3), np.uint8)
    image[: side // 2], image[side // 2 :] = colours[0], colours[1]
    image[side // 2 :, : 2 + frame * 2] = 255 - colours[1]
    return image


def make_clip(number: int, frames: int = 8, **fields) -> Clip:
    """Clip `number`, `frames` frames long; `fields` are others than by default."""
    pictures = (picture(number, frame) for frame in range(frames))
    values = {
        "payload": encode_video(pictures, Fraction(FPS), Encoding(preset="ultrafast")),
        "captions": (f"clip {number}", f"number {number}"),
        "label": number,
        "video": f"video{number // 4:06d}",
        "end": frames / FPS,
        "frames": frames,
        "fps": float(FPS),
        "width": SIDE,
        "height": SIDE,
    }
    return Clip(id=f"clip{number}", **(values | fields))


def write_corpus(folder: Path, records: Sequence[bytes], shards: int = 3) -> Path:
    """A corpus folder of raw records, dealt to shards in order."""
    infos = []
    for number, part in enumerate(np.array_split(np.arange(len(records)), shards)):
        with ShardWriter(folder / f"shard-{number:05d}-of-{shards:05d}.array_record") as shard:
            for record in part:
                shard.write(records[record])
        infos.append(shard.info)
    write_manifest(folder, infos, {"source": "test"})
    return folder


def corpus_of(folder: Path, clips: Iterable[Clip], shards: int = 3) -> Path:
    """A corpus folder of clips."""
    return write_corpus(folder, [pack(clip) for clip in clips], shards)
