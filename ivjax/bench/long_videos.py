"""Times answering about long videos, part by part, with HiCo and without it; and the memory that it takes."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from ivjax.data_pipelines.demo.needle_video import NeedleVideo
from ivjax.data_pipelines.dialogue.items import DialogueTokens
from ivjax.data_pipelines.dialogue.seeing import Seeing
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.experiment import Experiment
from ivjax.generate.decoding import Decoding
from ivjax.generate.opening import VideoInput
from ivjax.generate.reading import Prompt, PromptReader
from ivjax.generate.watching import Watched, Watcher
from ivjax.models.dialogue import DialogueSize
from ivjax.models.dialogue.model import DialogueModel
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.ops.cut import Params

# VideoChat-Flash's parts with few channels: 64 tokens a frame, of which HiCo leaves 16. One layer with one
# head, because a CPU spends minutes on the pairs of 160,000 tokens in each.
_TINY: Any = DIALOGUES["videochat_flash_qwen2_7b_224_tiny"]
LONG: DialogueSize = replace(
    _TINY,
    vision=replace(_TINY.vision, image=(128, 128)),
    bridge=replace(_TINY.bridge, frame_tokens=16, image_tokens=16),
    language=replace(_TINY.language, depth=1, heads=1, kv_heads=1),
)
_WORDS = 32  # of a question
_READINGS_PER_SECOND = 20  # of the memory


@dataclass(frozen=True)
class LongBench:
    """The measurements to make.

    Attributes:
        size: of the model, whose parameters are random.
        frames: of the videos.
        video: a file that is read; None: a needle video that is drawn frame by frame.
        clips: that are encoded at a time.
        options: of reading prompts and generating.
        unmerged_frames: longer videos are not read without HiCo.
        dtype: what is computed in.
    """

    frames: tuple[int, ...]
    size: DialogueSize = LONG
    video: str | None = None
    clips: int = 8
    options: Decoding = Decoding(new=16)
    unmerged_frames: int = 1000
    dtype: Any = "float32"

    def __post_init__(self) -> None:
        least = self.size.least_frames
        for name in ("clips", "unmerged_frames"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} must be above 0, got {getattr(self, name)}")
        if not self.frames or any(frames < least or frames % least for frames in self.frames):
            raise UserError(f"--frames must be multiples of {least}, the frames of a clip, got {self.frames}")
        if self.size.unmerged() is None:
            raise UserError(
                "the model's bridge merges nothing, so there is nothing to compare; give one with HiCo"
            )


def long_bench_of(wanted: LongBench, experiment: Experiment) -> LongBench:
    """Returns the measurements with the model that an experiment trains."""
    size = experiment.stage.size
    if not isinstance(size, DialogueSize):
        raise UserError(
            f"the config trains {type(experiment.stage).__name__}, and this benchmark reads videos with a "
            "dialogue model; give one such as dialogue_tiny"
        )
    return replace(wanted, size=size, dtype=experiment.dtype)


def bench_long(wanted: LongBench) -> Iterator[str]:
    """Yields JSON lines: each number of frames with HiCo, then without it; and the ratios at equal frames."""
    whole = wanted.size.unmerged()
    assert whole is not None
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    for name, size in (("on", wanted.size), ("off", whole)):
        model = size.build(Compute(wanted.dtype))
        params = _drawn(model)
        for frames in sorted(wanted.frames):
            line = {"hico": name, "frames": frames, **_counts(size, frames)}
            if name == "off" and frames > wanted.unmerged_frames:
                line["not_run"] = f"more than {wanted.unmerged_frames:,} frames (--unmerged-frames)"
            else:
                try:
                    line |= _measure(wanted, model, params, frames)
                except ClipError as error:
                    raise UserError(str(error)) from None
            lines[name, frames] = line
            yield json.dumps(line)
    for frames in sorted(wanted.frames):
        on, off = lines["on", frames], lines["off", frames]
        names = ("prompt_tokens", "prefill_gflop", "see_cpu_s", "prefill_cpu_s", "peak_mib")
        ratios = {name: round(on[name] / off[name], 4) for name in names if on.get(name) and off.get(name)}
        yield json.dumps({"ratio": "hico on / off", "frames": frames, **ratios})


def _drawn(model: DialogueModel) -> Params:
    """Random parameters, by numpy: to compile a model's own `init` takes longer than a short video."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(
        lambda leaf: jax.device_put(0.02 * rng.standard_normal(leaf.shape, np.float32)), shapes
    )


def _counts(size: DialogueSize, frames: int) -> dict[str, Any]:
    """What follows from the sizes alone."""
    visual = size.visual_tokens(frames)
    flops = size.flops(frames, visual + _WORDS)
    # The head reads the last token alone.
    prefill = flops["blocks"] + flops["attention"] + size.language.flops(1)["head"]
    return {
        "tokens_before_merging": size.unmerged_tokens(frames),
        "visual_tokens": visual,
        "prompt_tokens": visual + _WORDS,
        "vision_gflop": round((flops["vision"] + flops["bridge"]) / 1e9, 3),
        "prefill_gflop": round(prefill / 1e9, 3),
    }


def _measure(wanted: LongBench, model: DialogueModel, params: Params, frames: int) -> dict[str, Any]:
    size = model.size
    seeing = Seeing(Intervals(frames, "middle"), size.visual_tokens(size.least_frames))
    watcher = Watcher(model, params, seeing, wanted.clips)
    media = NeedleVideo(1, 0, max(frames, 8)) if wanted.video is None else wanted.video
    # Not counted: the first batch of clips compiles.
    watcher.watch([VideoInput(NeedleVideo(1, 0, 8), numbers=range(size.least_frames))])
    with _Peak() as peak:
        began = _now()
        watched = watcher.watch([VideoInput(media)])
        see = _now() - began
        prompt = _prompt(watched, size)
        reader = PromptReader(model, params, wanted.options)
        reader.warm_up(prompt)
        began = _now()
        reader.read(prompt).block_until_ready()
        prefill = _now() - began
        tokens = reader.stream(prompt)
        next(tokens)
        began = _now()
        count = sum(1 for _ in tokens)
        decode = _now() - began
    return {
        "decode_s": round(watched.seconds["decode"], 4),
        "see_s": round(see[0], 4),
        "see_cpu_s": round(see[1], 4),
        "prefill_s": round(prefill[0], 4),
        "prefill_cpu_s": round(prefill[1], 4),
        "new_tokens_per_s": round(count / decode[0], 2) if count else None,
        "peak_mib": round(peak.bytes / 2**20),
    }


def _prompt(watched: Watched, size: DialogueSize) -> Prompt:
    """A prompt of the visual tokens and some words."""
    count = len(watched.visual)
    words = np.random.default_rng(0).integers(3, size.vocabulary, _WORDS)
    ids = np.concatenate([np.zeros(count), words]).astype(np.int32)
    places = np.concatenate([np.arange(count), np.full(_WORDS, -1)]).astype(np.int32)
    return Prompt.of(DialogueTokens(ids, np.zeros(len(ids), bool), places), watched, size.bridge.out)


def _now() -> np.ndarray:
    """Seconds on the wall and of all this process's threads: the latter hardly depend on other processes."""
    return np.array([time.perf_counter(), time.process_time()])


class _Peak(contextlib.AbstractContextManager["_Peak"]):
    """The most resident memory of this process while it is open.

    Attributes:
        bytes: of resident memory.
    """

    def __init__(self) -> None:
        self.bytes = _resident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ivjax-memory", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(1 / _READINGS_PER_SECOND):
            self.bytes = max(self.bytes, _resident())

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.bytes = max(self.bytes, _resident())


def _resident() -> int:
    """Bytes of this process's memory that are in use; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
