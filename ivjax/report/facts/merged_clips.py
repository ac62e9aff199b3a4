"""What HiCo merges in the clips of a dialogue run."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ivjax.convert.loading import load
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.models.dialogue.model import DialogueModel
from ivjax.models.dialogue.projector import Projector
from ivjax.ops.cut import Params
from ivjax.ops.hico import Merged, merge_report
from ivjax.report.facts.dialogue_videos import sample_videos


class MergedClip(NamedTuple):
    """One clip whose tokens are merged together.

    Attributes:
        name: of its video, and its number in it.
        frames: (F, H, W, 3) uint8, one for each row of `regions`.
        regions: the output token that each patch went into, (F, rows, columns).
        tokens: how many output tokens there are.
    """

    name: str
    frames: np.ndarray
    regions: np.ndarray
    tokens: int


class MergedClips(NamedTuple):
    """The clips, and what merging did as a mean over them; see `merge_report`."""

    clips: tuple[MergedClip, ...]
    report: Mapping[str, Any]


def merges(experiment: Experiment) -> bool:
    """Whether the run trains a dialogue model that merges the tokens of its clips."""
    model = experiment.stage.model(experiment.compute)
    return (
        isinstance(model, DialogueModel)
        and isinstance(model.bridge, Projector)
        and model.bridge.size.frame_tokens is not None
        and model.bridge.size.clip_frames is not None
    )


def merged_clips(run: Path, experiment: Experiment, count: int) -> MergedClips:
    """Returns the first clip of each of `count` videos of the run's eval corpus."""
    loaded = load(run)
    model: DialogueModel = loaded.model
    size, bridge = model.size, model.bridge
    assert isinstance(bridge, Projector) and bridge.size.clip_frames is not None
    videos = list(sample_videos(experiment, size, count))
    if not videos:
        raise UserError("no video of its corpus could be read")
    clips = np.stack([frames[: size.least_frames] for _, frames in videos])
    merged = jax.device_get(_merge(model, loaded.params, clips))
    places = len(clips) * (size.least_frames // bridge.size.clip_frames)  # clips of which each is merged
    _, rows, columns = size.vision.grid
    down, across = rows // bridge.size.shuffle, columns // bridge.size.shuffle
    regions = merged.assignment.reshape(places, -1, down, across)
    frames = clips.reshape(places, bridge.size.clip_frames, *clips.shape[2:])
    # A tower with patches of several frames has one row of patches for all of them.
    frames = frames[:, :: frames.shape[1] // regions.shape[1]]
    if bridge.size.shuffle > 1 and bridge.size.shuffle_version == "v1":
        regions = regions.reshape(places, -1, across, down).swapaxes(2, 3)
    tokens = merged.sizes.shape[1]
    per_video = places // len(videos)
    found = tuple(
        MergedClip(videos[place // per_video][0], frames[place], regions[place], tokens)
        for place in range(places)
    )
    return MergedClips(found, jax.device_get(merge_report(merged, regions.shape[1])))


@functools.partial(jax.jit, static_argnums=0)
def _merge(model: DialogueModel, params: Params, clips: jax.Array) -> Merged:
    """Returns what the bridge merges of clips (V, F, H, W, 3)."""
    own, grid = model.size.segment(clips.shape[1])
    tokens = model.tower.encode(params["vision"], clips.reshape(-1, own, *clips.shape[2:])).tokens
    assert isinstance(model.bridge, Projector)
    return model.bridge.merged(params["bridge"], tokens.reshape(len(clips), -1, *tokens.shape[1:]), grid)
