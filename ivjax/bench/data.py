"""Measures how fast a corpus is read, next to bare decoding and to a plain sequential reader."""

import dataclasses
import io
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ivjax.data_pipelines.augment.recipe import TRAIN_STAGE2
from ivjax.data_pipelines.fields import ArraySpec, Frames
from ivjax.data_pipelines.fields.field import generator
from ivjax.data_pipelines.load.examples import ExampleMaker
from ivjax.data_pipelines.load.loader import BATCHES_AHEAD, BatchRequest, Loader
from ivjax.data_pipelines.load.mixture import Corpus, CorpusFields, Mixture
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.clips import open_clips
from ivjax.data_pipelines.store.manifest import write_manifest
from ivjax.data_pipelines.store.records import Clip, ClipError, pack
from ivjax.data_pipelines.store.shards import ShardWriter
from ivjax.data_pipelines.video.decode import Video, to_rgb
from ivjax.data_pipelines.video.encode import encode_video
from ivjax.errors import UserError

_BATCH = 16
_DIFFERENT = 16  # clips of a drawn corpus; the others repeat them
_ROUNDS = 9
_MEMORY_READINGS = 8


@dataclass(frozen=True)
class ClipShape:
    """The array that is read of each clip: `frames` sparse frames, resized to `side` x `side`."""

    frames: int = 8
    side: int = 224

    @property
    def field(self) -> Frames:
        """The field that reads a clip."""
        return Frames(Intervals(self.frames), TRAIN_STAGE2)

    @property
    def spec(self) -> dict[str, ArraySpec]:
        """The arrays of a row."""
        return {"video": ArraySpec((self.frames, self.side, self.side, 3), np.dtype(np.uint8))}


def bench_data(
    folder: Path | None,
    wanted: ClipShape,
    clips: int,
    workers: Sequence[int],
    records: int,
    cache_gib: float = 0.0,
) -> Iterator[str]:
    """Yields JSON lines: CPU time per clip by step, the references, loaders by workers, memory.

    With `cache_gib`, each loader is measured with a cache of decoded clips too. Without a corpus folder,
    `draw_corpus` draws a temporary one.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as drawn:
            draw_corpus(Path(drawn))
            yield from bench_data(Path(drawn), wanted, clips, workers, records, cache_gib)
        return
    try:
        yield from _measure(folder, wanted, clips, workers, records, cache_gib)
    except ClipError as error:
        raise UserError(
            f"{folder} holds a clip that cannot be read ({error}); `ivjax data validate {folder}` lists all "
            "of them, build the corpus again without them"
        ) from None


def _measure(
    folder: Path, wanted: ClipShape, clips: int, workers: Sequence[int], records: int, cache_gib: float
) -> Iterator[str]:
    """Yields the lines of `bench_data` for a corpus."""
    sample = _Sample(folder, wanted, clips)
    times = sample.measure()
    yield json.dumps({"what": "CPU ms per clip", **_rounded(times)})
    yield json.dumps({"what": "clips/s per core", **_rounded({n: 1e3 / ms for n, ms in times.items() if ms})})
    variants = [(count, 0.0) for count in workers]
    variants += [(count, cache_gib) for count in workers if cache_gib]
    lines = _time_loaders(folder, wanted, variants, clips, sample)
    yield from map(json.dumps, lines)
    for line in lines[1:]:
        ratio = line["clips_per_s"] / lines[0]["clips_per_s"]
        yield json.dumps({"ratio": f"{_name(line)} / {_name(lines[0])}", "clips_per_s": round(ratio, 3)})
    if records:
        yield json.dumps(_memory(folder, wanted, workers[-1], records))


def _name(line: Mapping[str, Any]) -> str:
    return f"workers={line['workers']}" + (f" cache_gib={line['cache_gib']}" if line["cache_gib"] else "")


def draw_corpus(
    folder: Path, records: int = 256, size: tuple[int, int] = (240, 320), frames: int = 64
) -> None:
    """Writes clips of a camera that moves over a grainy texture; a few different ones, many times."""
    clips = [_drawn_clip(number, size, frames) for number in range(_DIFFERENT)]
    with ShardWriter(folder / "shard-00000-of-00001.array_record") as shard:
        for number in range(records):
            shard.write(pack(dataclasses.replace(clips[number % _DIFFERENT], id=f"drawn{number}")))
    write_manifest(folder, [shard.info], {"source": "ivjax bench data"})


def _drawn_clip(number: int, size: tuple[int, int], frames: int) -> Clip:
    rng = np.random.default_rng(number)
    height, width = size
    speed = rng.integers(1, 4, 2)
    # Blocks of 8 pixels, as coarse as real pictures; pure noise does not compress and decodes far slower.
    coarse = rng.integers(0, 256, ((height + 4 * frames) // 8, (width + 4 * frames) // 8, 3))
    ground = coarse.repeat(8, 0).repeat(8, 1)

    def picture(frame: int) -> np.ndarray:
        top, left = speed * frame
        view = ground[top : top + height, left : left + width]
        return np.clip(view + rng.integers(-8, 8, view.shape), 0, 255).astype(np.uint8)

    payload = encode_video((picture(frame) for frame in range(frames)), Fraction(25))
    return Clip(
        id=f"drawn{number}",
        payload=payload,
        end=frames / 25,
        frames=frames,
        fps=25.0,
        width=width,
        height=height,
    )


class _Sample:
    """Some clips of a corpus, and ways to read them."""

    def __init__(self, folder: Path, wanted: ClipShape, clips: int):
        self._field = wanted.field
        self._wanted = wanted
        self._corpus = open_clips(str(folder))
        self._clips = [self._corpus[number] for number in range(min(clips, len(self._corpus)))]
        self._maker = ExampleMaker([CorpusFields(str(folder), {"video": self._field})], wanted.spec, seed=0)

    def measure(self) -> dict[str, float]:
        """Returns the median CPU milliseconds of each way; all ways take turns on each clip."""
        taken: dict[str, list[float]] = {}
        for number, clip in enumerate(self._clips):
            # In turn on each clip, so that a busy moment of the machine slows all of them alike.
            for name, seconds in self._ways(number, clip).items():
                taken.setdefault(name, []).append(seconds)
        return {name: 1e3 * statistics.median(values) for name, values in taken.items()}

    def bare(self) -> float:
        """Returns the CPU seconds per clip of bare decoding."""
        chosen = [(clip.payload, self._frames(number, clip)) for number, clip in enumerate(self._clips)]
        return _cpu(lambda: [_bare(*clip) for clip in chosen])[0] / len(chosen)

    def _ways(self, number: int, clip: Clip) -> dict[str, float]:
        chosen = self._frames(number, clip)
        side = (self._wanted.side, self._wanted.side)
        taken = {
            "bare": _cpu(lambda: _bare(clip.payload, chosen))[0],
            "sequential": _cpu(lambda: self._sequential(number))[0],
        }
        taken["read"], _ = _cpu(lambda: self._corpus[number])
        with Video(clip.payload) as video:
            opening, _ = _cpu(lambda: Video(clip.payload))
            decoded, frames = _cpu(lambda: video.decode(chosen))
            box = self._field.augment.box(clip.width, clip.height, generator(0, number, "crop"))
            taken["decode"] = opening + decoded
            taken["resize"], pixels = _cpu(lambda: to_rgb(frames, box, side))
        rng = generator(0, number, "pixels")
        taken["augment"], _ = _cpu(lambda: self._field.augment.pixels(pixels, rng))
        taken["example"], _ = _cpu(lambda: self._maker.make(number, number))
        return taken

    def _frames(self, number: int, clip: Clip) -> list[int]:
        rng = generator(0, number, "frames")
        return [int(index) for index in self._field.rule.choose(clip.frames, clip.fps, rng)]

    def _sequential(self, number: int) -> np.ndarray:
        """Reads a clip as a short script would: decodes everything, takes the frames, resizes them."""
        clip = self._corpus[number]
        chosen, side = self._frames(number, clip), self._wanted.side
        with av.open(io.BytesIO(clip.payload), "r") as container:
            container.streams.video[0].codec_context.thread_count = 1
            frames = list(container.decode(video=0))
        options: dict[str, Any] = {"format": "rgb24", "width": side, "height": side}
        return np.stack([frames[index].to_ndarray(**options) for index in chosen])


def _bare(payload: bytes, chosen: Sequence[int]) -> list[np.ndarray]:
    """Decodes up to the last wanted frame and converts the wanted ones to RGB: the least that PyAV can do."""
    wanted, last = set(chosen), max(chosen)
    pictures = []
    with av.open(io.BytesIO(payload), "r") as container:
        container.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                pictures.append(frame.to_ndarray(format="rgb24"))
            if number == last:
                break
    return pictures


def _cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    # CPU time of the thread and not wall time: other work on the machine does not count.
    started = time.thread_time()
    result = work()
    return time.thread_time() - started, result


def _open(folder: Path, wanted: ClipShape, workers: int, cache_gib: float = 0.0) -> Loader:
    mixture = Mixture((Corpus(str(folder)),), {"video": wanted.field}, workers=workers, cache_gib=cache_gib)
    return mixture.open(BatchRequest(wanted.spec, _BATCH))


def _time_loaders(
    folder: Path, wanted: ClipShape, variants: Sequence[tuple[int, float]], clips: int, sample: _Sample
) -> list[dict[str, Any]]:
    """Returns the best of several rounds for each (workers, cache_gib), in turn with bare decoding."""
    # Other work of the machine only adds time, so the best round comes closest to the work itself.
    loaders = {variant: _open(folder, wanted, *variant) for variant in variants}
    windows: dict[tuple[int, float], list[tuple[float, float]]] = {variant: [] for variant in variants}
    for (_, cache_gib), loader in loaders.items():
        for _ in range(_warm_batches(loader) if cache_gib else 0):
            next(loader)
    bare = []
    for _ in range(_ROUNDS):
        bare.append(sample.bare())
        for variant, loader in loaders.items():
            windows[variant].append(_window(loader, clips))
    for loader in loaders.values():
        loader.close()
    return [
        {
            "what": "loader",
            "workers": count,
            "cache_gib": cache_gib,
            "clips_per_s": round(1 / min(wall for wall, _ in measured), 1),
            "clips_per_cpu_s": round(1 / min(cpu for _, cpu in measured), 1),
            "of_bare": round(min(bare) / min(cpu for _, cpu in measured), 3),
        }
        for (count, cache_gib), measured in windows.items()
    ]


def _warm_batches(loader: Loader) -> int:
    """Returns the batches of one epoch, after which every clip has been decoded once."""
    return -(-loader.epoch // _BATCH)


def _window(loader: Loader, clips: int) -> tuple[float, float]:
    """Returns wall and CPU seconds per clip, without the batches that were ready before."""
    # These were filled while the other loaders were measured.
    for _ in range(BATCHES_AHEAD + 2):
        next(loader)
    cpu, started = _cpu_seconds(), time.perf_counter()
    batches = max(clips // _BATCH, 1)
    for _ in range(batches):
        next(loader)
    wall, cpu = time.perf_counter() - started, _cpu_seconds() - cpu
    return wall / (batches * _BATCH), cpu / (batches * _BATCH)


def _memory(folder: Path, wanted: ClipShape, workers: int, records: int) -> dict[str, Any]:
    """Returns the resident memory of this process and its workers at even distances over `records` clips."""
    loader = _open(folder, wanted, workers)
    readings = []
    for _ in range(_MEMORY_READINGS):
        for _ in range(max(records // _MEMORY_READINGS // _BATCH, 1)):
            next(loader)
        readings.append(round(sum(_resident(pid) for pid in _processes()) / 2**20, 1))
    loader.close()
    return {"what": "resident MiB over the run", "records": records, "mib": readings}


def _processes() -> list[int]:
    """Returns the ids of this process and its children."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [os.getpid(), *(int(pid) for file in children for pid in file.read_text().split())]


def _cpu_seconds() -> float:
    """Returns the CPU time of this process and of its running and ended children."""
    ticks = os.sysconf("SC_CLK_TCK")
    # getrusage counts children only once they have ended.
    running = sum(sum(map(int, _stat(pid)[11:13])) for pid in _processes()[1:]) / ticks
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + running + ended.ru_utime + ended.ru_stime


def _stat(pid: int) -> list[str]:
    """Returns the fields of /proc/PID/stat after the command's name."""
    # A command's name stands in brackets and may hold blanks and brackets itself.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _resident(pid: int) -> int:
    return int(_stat(pid)[21]) * os.sysconf("SC_PAGE_SIZE")


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}
