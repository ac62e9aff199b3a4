"""The first clips that a run evaluates on, as the run reads them."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import Video
from ivjax.evals.items import EvalData, Item, open_items
from ivjax.evals.own_frames import OwnFrames, first_corpus, own_frames
from ivjax.evals.views import VideoView, read_view
from ivjax.experiment.experiment import Experiment

_FRAMES = 8  # of a run that does not say how many it reads


class SampleClip(NamedTuple):
    """A clip with its words; `frames` (F, H, W, 3) uint8 are as large as they are stored."""

    frames: np.ndarray
    words: str


def sample_items(experiment: Experiment, count: int) -> list[Item]:
    """Returns the first clips of the first eval corpus, else of the first corpus; none of drawn clips.

    Each is named by its number, so that it is found again among those that could be scored.
    """
    corpus = first_corpus(experiment.data)
    found = open_items(EvalData(corpus.folder, limit=count)) if corpus else ()
    return [replace(item, id=str(number)) for number, item in enumerate(found) if isinstance(item, Item)]


def sample_clips(experiment: Experiment, count: int) -> list[SampleClip]:
    """Returns some clips of a run; those that cannot be read are left out."""
    own, found = own_frames(experiment), []
    for item in sample_items(experiment, count) if own else ():
        try:
            found.append(SampleClip(frames_of(item, own), words_of(item)))
        except ClipError:
            continue
    return found


def frames_of(item: Item, own: OwnFrames | None) -> np.ndarray:
    """Returns the frames of a stored clip by the rule and the crop of a run; raises ClipError."""
    view = VideoView(item.media, item.start, item.end)
    if own is not None:
        view = replace(view, rule=own.rule, crop=own.crop)
    # A corpus holds the bytes of its clips.
    assert isinstance(item.media, bytes)
    with Video(item.media) as video:
        return read_view(video, view, own.rule.frames if own else _FRAMES)


def words_of(item: Item) -> str:
    """Returns the first caption of a clip, else what else is known of it."""
    told = [f"{name} {value}" for name, value in item.attributes.items()]
    label = [f"class {item.label}"] if item.label is not None else []
    return item.captions[0] if item.captions else ", ".join([*label, *told]) or f"clip {item.id}"
