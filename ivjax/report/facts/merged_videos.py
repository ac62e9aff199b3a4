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
from ivjax.models.dialogue.projector_size import ProjectorSize
from ivjax.models.sizes import Grid
from ivjax.ops.cut import Params
from ivjax.ops.hico import Merged, merge_report
from ivjax.report.facts.dialogue_videos import sample_videos

_MOST = 16  # frames of a video that are shown, unless a single clip has more


class MergedVideo(NamedTuple):
    """The first clips of a video, each of which is merged by itself.

    Attributes:
        name: of the video.
        frames: (F, H, W, 3) uint8, one for each row of `regions`.
        regions: the visual token that each patch went into, (F, rows, columns); later clips count on.
        tokens: how many visual tokens there are.
        clips: how many clips.
    """

    name: str
    frames: np.ndarray
    regions: np.ndarray
    tokens: int
    clips: int


class MergedVideos(NamedTuple):
    """Some videos, and what merging did as a mean over their clips; see `merge_report`."""

    videos: tuple[MergedVideo, ...]
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


def merged_videos(run: Path, experiment: Experiment, count: int) -> MergedVideos:
    """Returns the first clips of `count` videos of the run's eval corpus."""
    loaded = load(run)
    model: DialogueModel = loaded.model
    size, bridge = model.size, model.bridge
    assert isinstance(bridge, Projector) and bridge.size.clip_frames is not None
    found = list(sample_videos(experiment, size, count))
    if not found:
        raise UserError("no video of its corpus could be read")
    # Whole clips, and of each video equally many, for one program.
    fewest = min(len(frames) for _, frames in found)
    length = max(min(fewest, _MOST) // size.least_frames, 1) * size.least_frames
    videos = np.stack([frames[:length] for _, frames in found])
    merged = jax.device_get(_merge(model, loaded.params, videos))
    clips, tokens = size.times(length) // bridge.size.clip_frames, merged.sizes.shape[1]
    regions = _patches(merged.assignment, bridge.size, size.vision.grid)
    positions = regions.shape[1]  # of a clip in time, each with a grid of patches
    regions = regions.reshape(len(found), clips, *regions.shape[1:])
    regions = regions + tokens * np.arange(clips)[:, None, None, None]
    regions = regions.reshape(len(found), clips * positions, *regions.shape[3:])
    # A tower with patches of several frames has one grid for all of them.
    shown = videos[:, :: length // regions.shape[1]]
    each = zip(found, shown, regions, strict=True)
    return MergedVideos(
        tuple(MergedVideo(name, frames, places, clips * tokens, clips) for (name, _), frames, places in each),
        jax.device_get(merge_report(merged, positions)),
    )


def _patches(assignment: np.ndarray, bridge: ProjectorSize, grid: Grid) -> np.ndarray:
    """Returns the output tokens of clips (B, N) by their place: (B, positions, rows, columns)."""
    rows, columns = grid[1] // bridge.shuffle, grid[2] // bridge.shuffle
    if bridge.shuffle > 1 and bridge.shuffle_version == "v1":  # which swaps rows and columns
        return assignment.reshape(len(assignment), -1, columns, rows).swapaxes(2, 3)
    return assignment.reshape(len(assignment), -1, rows, columns)


@functools.partial(jax.jit, static_argnums=0)
def _merge(model: DialogueModel, params: Params, videos: jax.Array) -> Merged:
    """Returns what the bridge merges of videos (V, F, H, W, 3), clip by clip."""
    own, grid = model.size.segment(videos.shape[1])
    tokens = model.tower.encode(params["vision"], videos.reshape(-1, own, *videos.shape[2:])).tokens
    assert isinstance(model.bridge, Projector)
    return model.bridge.merged(params["bridge"], tokens.reshape(len(videos), -1, *tokens.shape[1:]), grid)
