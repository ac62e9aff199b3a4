"""Scores a classifier on several views of each video: the mean of their softmax decides."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ivjax.data_pipelines.augment.geometry import Crop
from ivjax.data_pipelines.augment.geometry import View as Square
from ivjax.data_pipelines.sampling import Dense, FrameRule, Spread, Ticks
from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.evals.encoding import ClipEncoder
from ivjax.evals.items import ANSWERS, Item, UnscoredClip, open_items
from ivjax.evals.own_frames import OwnFrames, Reading, default_origin, origin_of, views_of
from ivjax.evals.result import Result, facts_of
from ivjax.evals.scoring.known_classes import KnownClasses, known_classes
from ivjax.evals.scoring.rank_metrics import average_precisions, find_ranks
from ivjax.evals.scoring.recognising import naming_metrics, scores_by_class
from ivjax.evals.scoring.similarity import softmax
from ivjax.evals.suites.classify import Sampling, ViewClassification
from ivjax.evals.vectors import Setting, embed
from ivjax.evals.views import VideoView
from ivjax.experiment.listing import options_text

_RULES: Mapping[Sampling, Callable[[int, int, int], FrameRule]] = {
    "kinetics": lambda frames, clip, clips: Spread(frames, "view", clip, clips),
    "ssv2": lambda frames, clip, clips: Ticks(frames, "view", clip, clips),
    "ucf": lambda frames, clip, clips: Dense(frames, view=clip, views=clips),
}
_SAID: Mapping[Sampling, str] = {
    "kinetics": "kinetics: one frame of each of T equal parts; later clips take later ones",
    "ssv2": "ssv2: frames at equal distances, dealt to the clips in turn",
    "ucf": "ucf: frames 4 apart; clips at equal distances from the first frame to the last",
}
_MOST = 5  # classes of a prediction that are told


def score(setting: Setting[ClipEncoder], suite: ViewClassification = ViewClassification()) -> Result:
    """Returns accuracies and mAP in percent of the mean probabilities of each video's views."""
    classes = setting.encoder.width
    items = open_items(setting.data)
    known = known_classes(items, setting.classes, classes, suite.classes)
    several = suite.labels == "several"
    rows = known.renumbered(items)
    labelled = _Labelled(merge_labels(rows) if several else rows, classes)
    reading: Reading = setting.reading or suite.reading(None, setting.encoder.frames)
    embedded = embed(setting, labelled, len(items), reading.views, merged)
    if not embedded.items:
        raise UserError(f"no clip of {setting.data.path} has a label; give a test set with labels")
    if suite.predictions is not None and jax.process_index() == 0:
        store(Path(suite.predictions), predictions_text(embedded.items, embedded.vectors, known))
    right = [labels_of(item) for item in embedded.items]
    facts = facts_of(setting, len(right), words=False) | {
        **reading.facts(),
        "crops a clip": suite.crops or 1,
        "views a video": len(reading.views),
        "classes": classes,
        **known.facts(),
        "views are merged": "mean of their softmax",
        "labels of a video": "those of all its rows; any of them is right" if several else "one",
        "rows listed twice": labelled.twice,
        "clips without a label": labelled.without,
    }
    places = find_ranks([embedded.vectors], right).places()
    by_class = scores_by_class(places, right, known.name)
    return Result(suite.name, facts, class_accuracies(embedded.vectors, right), embedded.unscored, by_class)


def reading_of_views(suite: ViewClassification, own: OwnFrames | None, frames: int) -> Reading:
    """Returns the views of a video: by what the suite was told, else by the run, else by the defaults."""
    fitted = None if own is None else own.fitted(frames)
    crop = fitted.crop if fitted else Square()
    count = suite.crops or 0
    squares: list[Crop] = [Square(number, count) for number in range(count)]
    if fitted and suite.sampling is None:
        views = views_of(fitted.rule, squares or [crop], suite.clips)
        told = options_text(fitted.rule)
    else:
        sampling = suite.sampling or "kinetics"
        rules = [_RULES[sampling](frames, clip, suite.clips) for clip in range(suite.clips)]
        views = tuple(VideoView("", rule=rule, crop=one) for rule in rules for one in squares or [crop])
        told = _SAID[sampling]
    pictures = f"{suite.crops} squares along the longer side" if suite.crops else options_text(crop)
    return Reading(views, told, pictures, _origin(suite, own, fitted))


def _origin(suite: ViewClassification, own: OwnFrames | None, fitted: OwnFrames | None) -> str:
    asked = {"--sampling": suite.sampling, "--crops": suite.crops}
    flags = " and ".join(flag for flag, value in asked.items() if value is not None)
    if all(asked.values()):
        return flags
    default = origin_of(fitted) if fitted else default_origin(own)
    return f"{flags}, else {default}" if flags else default


def merged(logits: np.ndarray) -> np.ndarray:
    """Returns the mean probabilities (classes,) float64 of a video's views (views, classes)."""
    # Probabilities are averaged and not logits, as in the originals' merging of views.
    mean: np.ndarray = softmax(logits.astype(np.float64)).mean(0)
    return mean


def class_accuracies(probabilities: np.ndarray, right: Sequence[Sequence[int]]) -> dict[str, float]:
    """Returns percentages for probabilities (n, classes) and the right classes of each video.

    `map` is the mean over classes of the precision at their right videos, `mean_class` the mean over classes
    of their top-1 accuracies, where each video has one class. Classes that no video has count in neither.
    """
    places = find_ranks([probabilities], right).places()
    found = naming_metrics(places, right, probabilities.shape[1])
    hot = np.zeros(probabilities.shape, bool)
    for row, labels in zip(hot, right, strict=True):
        row[list(labels)] = True
    found["map"] = round(100 * float(average_precisions(probabilities, hot)[hot.any(0)].mean()), 2)
    if all(len(labels) == 1 for labels in right):
        of_classes = [np.mean(places[hot[:, label]] == 0) for label in np.flatnonzero(hot.any(0))]
        found["mean_class"] = round(100 * float(np.mean(of_classes)), 2)
    return found


def labels_of(item: Item) -> list[int]:
    """Returns the numbers of an item's classes: those in the attribute `answers`, or its one label."""
    if ANSWERS in item.attributes:
        return [int(number) for number in item.attributes[ANSWERS].split()]
    return [] if item.label is None else [item.label]


def merge_labels(items: Iterable[Item | UnscoredClip]) -> Iterator[Item | UnscoredClip]:
    """Returns the items, those of the same part of the same file joined to one with all their labels."""
    merged: dict[object, Item | UnscoredClip] = {}
    for item in items:
        # A record of a corpus is a video of its own; its bytes need not be compared with all others.
        key: object = len(merged)
        if isinstance(item, Item) and not isinstance(item.media, bytes):
            key = _part_of(item)
        first = merged.get(key)
        if isinstance(item, Item) and isinstance(first, Item):
            labels = " ".join(map(str, sorted({*labels_of(first), *labels_of(item)})))
            merged[key] = replace(first, attributes=dict(first.attributes) | {ANSWERS: labels})
        else:
            merged[key] = item
    return iter(merged.values())


def predictions_text(
    items: Sequence[Item], probabilities: np.ndarray, known: KnownClasses = KnownClasses()
) -> str:
    """Returns a line of JSON for each video: id, label, likeliest classes and their probabilities.

    Classes have their names beside their numbers where these are known.
    """

    def named(number: int) -> dict[str, str]:
        name = known.name(number)
        return {} if name is None else {"name": name}

    # Stable, so that equal probabilities give the same file on every machine.
    order = np.argsort(-probabilities, axis=-1, kind="stable")[:, :_MOST]
    lines = []
    for item, row, first in zip(items, probabilities, order, strict=True):
        top = [
            {"class": int(number), **named(number), "probability": round(float(row[number]), 6)}
            for number in first
        ]
        labels: dict[str, Any] = {"labels": labels_of(item)}
        if ANSWERS not in item.attributes:
            labels = {"label": item.label, **named(labels_of(item)[0])}
        lines.append(json.dumps({"id": item.id, **labels, "top5": top}, ensure_ascii=False) + "\n")
    return "".join(lines)


class _Labelled:
    """Yields the items that have a label, each part of a file with the same labels once; counts the others.

    An item is told by its file and times and not by its name: names may repeat in other folders.
    """

    def __init__(self, items: Iterable[Item | UnscoredClip], classes: int):
        self._items = items
        self._classes = classes
        self._seen: set[object] = set()
        self.twice = 0
        self.without = 0

    def __iter__(self) -> Iterator[Item | UnscoredClip]:
        for item in self._items:
            if isinstance(item, Item):
                labels = labels_of(item)
                if not labels:
                    self.without += 1
                    continue
                self._check(item, labels)
                if self._is_known(item, labels):
                    self.twice += 1
                    continue
            yield item

    def _is_known(self, item: Item, labels: Sequence[int]) -> bool:
        if isinstance(item.media, bytes):  # a record of a corpus, which lists each once
            return False
        # The originals know a video by its base name, and take two of one name in different folders for one.
        key = (_part_of(item), tuple(labels))
        known = key in self._seen
        self._seen.add(key)
        return known

    def _check(self, item: Item, labels: Sequence[int]) -> None:
        wrong = next((label for label in labels if not 0 <= label < self._classes), None)
        if wrong is not None:
            raise UserError(
                f"clip {item.id} has label {wrong}, and the classifier's {self._classes} classes are "
                f"numbered 0 to {self._classes - 1}; give the labels that it was trained with"
            )


def _part_of(item: Item) -> object:
    return item.media, item.start, item.end
