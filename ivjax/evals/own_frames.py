"""How clips are read for a model: by the frame rule and the crop of the run that it comes from.

A model that is tested on other frames than it was trained on, or on another part of the picture, is said to
be worse than it is. So clips are read as the run did, without its draws, unless the user says otherwise.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ivjax.convert.loading import split_branch
from ivjax.data_pipelines.augment.geometry import Crop
from ivjax.data_pipelines.load.mixture import CorpusFields, Mixture, mixtures_of, path_of_medium
from ivjax.data_pipelines.sampling import EveryOf, FrameRule, rules_of_views
from ivjax.evals.views import VideoView
from ivjax.experiment.buckets import local
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import options_text
from ivjax.experiment.storing import is_run, stored_experiment

_ARRAY = "video"  # the array of a batch that a field of frames makes


@dataclass(frozen=True)
class OwnFrames:
    """The frame rule and the crop of a run; neither draws random numbers.

    Attributes:
        rule: which frames of a clip.
        crop: which part of the picture.
        origin: where they stand in the run's experiment.
    """

    rule: FrameRule
    crop: Crop
    origin: str

    def fitted(self, frames: int) -> "OwnFrames | None":
        """Returns the same for a tower of `frames` frames; None if the run's clips do not divide into so few.

        A tower of fewer frames sees every n-th one, as a student beside a teacher of more frames does.
        """
        step, rest = divmod(self.rule.frames, frames)
        # A tower of single frames reads each of them; the first of a clip says little of it.
        if rest or not step or (step > 1 and frames == 1):
            return None
        return self if step == 1 else replace(self, rule=EveryOf(self.rule, step))


@dataclass(frozen=True)
class Reading:
    """How the clips of a test are read.

    Attributes:
        views: the views of each clip, but for its medium and times; those of the same frames are neighbours.
        frames: which frames, in words.
        crop: which part of the picture, in words.
        origin: who says so.
    """

    views: tuple[VideoView, ...]
    frames: str
    crop: str
    origin: str

    def facts(self) -> dict[str, Any]:
        """Returns what a result states of it."""
        return {"frames are": self.frames, "pictures are": self.crop, "frames and pictures by": self.origin}

    def __str__(self) -> str:
        return f"clips are read by {self.origin}: frames {self.frames}; pictures {self.crop}"


def own_frames(experiment: Experiment) -> OwnFrames | None:
    """Returns how an experiment reads the clips that it evaluates on; None if it reads no stored videos.

    By the first of its eval corpora, else of its corpora. What is drawn in training becomes what belongs to
    it in tests: the middle frame instead of a random one, the centre instead of a random crop.
    """
    corpus = first_corpus(experiment.data)
    for name, field in corpus.fields.items() if corpus else ():
        # Not asked for its class: a new field of frames says itself how it is read in tests.
        counterpart = getattr(field, "for_tests", None)
        if corpus and counterpart is not None and _ARRAY in field.arrays(name):
            found: Any = counterpart()
            return OwnFrames(found.rule, found.augment.crop, corpus.path_of(name))
    return None


def own_frames_of(path: str | Path) -> OwnFrames | None:
    """Returns how the run at PATH, or at PATH#BRANCH, reads clips; None if the path is no run's."""
    folder = local(split_branch(str(path))[0]).expanduser()
    return own_frames(stored_experiment(folder)) if is_run(folder) else None


def views_of(rule: FrameRule, crops: Sequence[Crop], clips: int) -> tuple[VideoView, ...]:
    """Returns all crops of the first clip, then of the second.

    Several clips are the views that the rule knows, else equal parts of the video.
    """
    rules = rules_of_views(rule, clips) if clips > 1 else (rule,)
    if not rules:
        parts = [VideoView("", parts=clips, part=clip, rule=rule) for clip in range(clips)]
        return tuple(replace(part, crop=crop) for part in parts for crop in crops)
    return tuple(VideoView("", rule=one, crop=crop) for one in rules for crop in crops)


def reading_of(own: OwnFrames | None, frames: int, clips: int) -> Reading:
    """Returns the reading of a suite that has no rules of its own; of each clip, one view of the picture."""
    fitted = None if own is None else own.fitted(frames)
    if fitted is not None:
        views = views_of(fitted.rule, [fitted.crop], clips)
        return Reading(views, options_text(fitted.rule), options_text(fitted.crop), origin_of(fitted))
    views = tuple(VideoView("", parts=clips, part=clip) for clip in range(clips))
    return Reading(views, "the middle ones of equal parts", "whole", default_origin(own))


def origin_of(own: OwnFrames) -> str:
    """Returns who chose a run's frames and crop, in words."""
    return f"the run ({own.origin})"


def default_origin(own: OwnFrames | None) -> str:
    """Returns that the suite chose, and why, where `own` is that of a run whose clips do not fit."""
    return "the suite" if own is None else f"the suite: clips of the run have {own.rule.frames} frames"


def first_corpus(data: object) -> CorpusFields | None:
    """Returns the first of the eval corpora, else the first corpus, of the mixture of clips."""
    mixtures = mixtures_of(data)
    path = next((path for path in (path_of_medium(_ARRAY), *mixtures) if path in mixtures), None)
    if path is None:
        return None
    mixture: Mixture = mixtures[path]
    corpora = itertools.chain(mixture.corpus_fields(path, True), mixture.corpus_fields(path))
    return next(corpora, None)
