"""A classifier on several views of each video: softmax of every view, their mean, the class with the most."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from ivjax.data_pipelines.augment.geometry import View as Square
from ivjax.data_pipelines.sampling import Dense, FrameRule, Spread, Ticks
from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.evals.vectors import Setting, embed
from ivjax.evals.items import UnscoredClip, Item, open_items
from ivjax.evals.scoring.metrics import find_ranks
from ivjax.evals.scoring.class_names import Labelled
from ivjax.evals.result import Result, facts_of
from ivjax.evals.scoring.similarity import softmax
from ivjax.evals.views import VideoView
from ivjax.evals.scoring.recognising import naming_metrics

Sampling = Literal["kinetics", "ssv2", "ucf"]
_RULES: Mapping[Sampling, Callable[[int, int, int], FrameRule]] = {
    "kinetics": lambda frames, clip, clips: Spread(frames, "view", clip, clips),
    "ssv2": lambda frames, clip, clips: Ticks(frames, "view", clip, clips),
    "ucf": lambda frames, clip, clips: Dense(frames, view=clip, views=clips),
}
_SAID: Mapping[Sampling, str] = {
    "kinetics": "kinetics: one frame of each equal part, later in it the later the clip",
    "ssv2": "ssv2: every so-many-th of the frames of all clips in order",
    "ucf": "ucf: neighbouring frames 4 apart, clips from end to end",
}
_MOST = 5  # classes of a prediction that are told


@dataclass(frozen=True)
class ClassifyOptions:
    """crops: square windows along the longer side. sampling: whose test rule chooses the frames. predictions:
    a file for what was said of each video, one JSON object a line."""

    crops: int = 1
    sampling: Sampling = "kinetics"
    predictions: Path | None = None

    def __post_init__(self) -> None:
        if self.crops < 1:
            raise UserError(f"{self.crops} crops a clip cannot be; ask for 1 or more")


def classify(setting: Setting, options: ClassifyOptions = ClassifyOptions()) -> Result:
    """Top-1, top-5 and the mean over classes of their accuracies, in percent."""
    classes = setting.encoder.width
    items = open_items(setting.data)
    labelled = Labelled(items, None, ())
    once = _Once(labelled, classes)
    plan = view_plan(setting.encoder.frames, setting.clips, options)
    embedded = embed(setting, once, len(items), plan, merged)
    if not embedded.items:
        raise UserError(f"no clip of {setting.data.path} has a label; give a test set with labels")
    labels = [cast(int, item.label) for item in embedded.items]
    if options.predictions is not None:
        store(options.predictions, predictions_text(embedded.items, embedded.vectors))
    facts = facts_of(setting, len(labels), words=False) | {
        "crops a clip": options.crops,
        "views a video": len(plan),
        "frames are": _SAID[options.sampling],
        "classes": classes,
        "views are merged": "mean of their softmax",
        "rows listed twice": once.twice,
        "clips without a label": labelled.without,
    }
    return Result("classify", facts, accuracies(embedded.vectors, labels), embedded.faults)


def view_plan(frames: int, clips: int, options: ClassifyOptions) -> list[VideoView]:
    """All crops of the first clip, then of the second: those that share their frames are neighbours."""
    rules = [_RULES[options.sampling](frames, clip, clips) for clip in range(clips)]
    crops = [Square(number, options.crops) for number in range(options.crops)]
    return [VideoView("", rule=rule, crop=crop) for rule in rules for crop in crops]


def merged(logits: np.ndarray) -> np.ndarray:
    """The mean probabilities (classes,) float64 of a video's views (views, classes)."""
    return softmax(logits.astype(np.float64)).mean(0)


def accuracies(probabilities: np.ndarray, labels: Sequence[int]) -> dict[str, float]:
    """In percent, of probabilities (n, classes); classes that no label names do not count in `mean_class`."""
    right = [[label] for label in labels]
    places = find_ranks([probabilities], right).places()
    found = naming_metrics(places, right, probabilities.shape[1])
    of_classes = [np.mean(places[np.array(labels) == label] == 0) for label in sorted(set(labels))]
    return found | {"mean_class": round(100 * float(np.mean(of_classes)), 2)}


def predictions_text(items: Sequence[Item], probabilities: np.ndarray) -> str:
    """A line of JSON for each video: id, label, and its likeliest classes with their probabilities."""
    order = np.argsort(-probabilities, axis=-1, kind="stable")[:, :_MOST]
    lines = []
    for item, row, first in zip(items, probabilities, order, strict=True):
        top = [{"class": int(number), "probability": round(float(row[number]), 6)} for number in first]
        lines.append(json.dumps({"id": item.id, "label": item.label, "top5": top}, ensure_ascii=False) + "\n")
    return "".join(lines)


class _Once:
    """The items of a classifier's classes, each part of a file with a label once; counts the others.

    Who an item is, its file and times say and not its name: names may repeat in other folders.
    """

    def __init__(self, items: Iterable[Item | UnscoredClip], classes: int):
        self._items = items
        self._classes = classes
        self._seen: set[tuple[Any, ...]] = set()
        self.twice = 0

    def __iter__(self) -> Iterator[Item | UnscoredClip]:
        for item in self._items:
            if isinstance(item, Item):
                self._check(item)
                if self._is_known(item):
                    self.twice += 1
                    continue
            yield item

    def _is_known(self, item: Item) -> bool:
        if isinstance(item.media, bytes):  # a record of a corpus, which lists each once
            return False
        key = (item.media, item.start, item.end, item.label)
        known = key in self._seen
        self._seen.add(key)
        return known

    def _check(self, item: Item) -> None:
        if not 0 <= cast(int, item.label) < self._classes:
            raise UserError(
                f"clip {item.id} has label {item.label}, and the classifier's {self._classes} classes are "
                f"numbered 0 to {self._classes - 1}; give the labels that it was trained with"
            )
