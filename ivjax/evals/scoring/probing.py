"""Scores a linear probe: what a linear classifier reads off the features of a frozen encoder."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from ivjax.errors import UserError
from ivjax.evals.encoding import ClipEncoder
from ivjax.evals.items import Item, UnscoredClip, open_items
from ivjax.evals.result import Result, facts_of
from ivjax.evals.scoring.class_names import Labelled, sorted_values, values_of
from ivjax.evals.scoring.logistic import choose_l2, fit, held_out, standardised
from ivjax.evals.scoring.rank_metrics import find_ranks
from ivjax.evals.scoring.recognising import naming_metrics
from ivjax.evals.suites.probe import LinearProbe
from ivjax.evals.vectors import Setting, embed

_FEWEST = 5  # training clips, so that one of them can be held out


class Probed(ClipEncoder, Protocol):
    """An encoder whose features can be compared with those of random parameters."""

    feature: str

    def fresh(self) -> ClipEncoder:
        """Returns the same architecture with random parameters."""
        ...


@dataclass(frozen=True)
class ProbeSet:
    """The training set or the test set.

    Attributes:
        items: its clips.
        values: what each clip is, of what the probe tells apart.
        by_encoder: features (n, D) of the clips, one array for each encoder.
        left_out: how many clips were left out, by reason.
        unscored: clips that could not be read.
        named: whether its labels have names.
    """

    items: tuple[Item, ...]
    values: tuple[str, ...]
    by_encoder: tuple[np.ndarray, ...]
    left_out: dict[str, int]
    unscored: tuple[UnscoredClip, ...]
    named: bool = False


@dataclass(frozen=True)
class ProbeFit:
    """A probe on the test set.

    Attributes:
        scores: (n, classes).
        l2: the strength of L2 that was chosen.
        slope: the largest entry of the gradient where the fit ended.
    """

    scores: np.ndarray
    l2: float
    slope: float


def score(setting: Setting[Probed], suite: LinearProbe) -> Result:
    """Returns top-1 accuracy in percent of a probe fitted to other clips, and its gain over random ones."""
    if Path(suite.train).expanduser().resolve() == Path(setting.data.path).expanduser().resolve():
        raise UserError(f"{suite.train} is both the training set and the test set; name two different ones")
    encoders: dict[str, ClipEncoder] = {"": setting.encoder}
    if suite.baseline == "random":
        # Random features are the floor: an architecture alone tells colours and places apart.
        encoders["random"] = setting.encoder.fresh()
    if suite.still:
        encoders["still"] = OneFrame(setting.encoder)
    # Decoding costs more than encoding, so all encoders see each batch of one pass.
    beside: Setting[Any] = replace(cast(Setting[Any], setting), encoder=Beside(tuple(encoders.values())))
    train, test = (_read(beside, path, suite.attribute) for path in (suite.train, setting.data.path))
    if train.named != test.named:
        named, numbered = (suite.train, setting.data.path)[:: 1 if train.named else -1]
        raise UserError(
            f"the classes of {named} have names and those of {numbered} are numbers; build both from names, "
            "the second with --classes and the first corpus"
        )
    classes = _classes(train, test, suite)
    fits = [_fit(train, test, classes, number) for number in range(len(encoders))]
    facts = facts_of(setting, len(test.items), words=False) | _stated(setting, suite, train, test, classes)
    facts |= {"L2 chosen": [found.l2 for found in fits], "largest slope left": max(f.slope for f in fits)}
    scores = {name: found.scores for name, found in zip(encoders, fits, strict=True)}
    metrics = _metrics(scores, test.values, classes)
    return Result(suite.name, facts, metrics, train.unscored + test.unscored)


class Beside:
    """A ClipEncoder: the vectors of several encoders for the same clips, side by side in each row."""

    def __init__(self, encoders: Sequence[ClipEncoder]):
        self.frames, self.image = encoders[0].frames, encoders[0].image
        self.widths = [encoder.width for encoder in encoders]
        self.width = sum(self.widths)
        self._encoders = encoders

    def video(self, clips: np.ndarray) -> np.ndarray:
        """Returns (n, D) float32 for clips (n, T, H, W, 3) uint8."""
        return np.concatenate([encoder.video(clips) for encoder in self._encoders], axis=-1)


class OneFrame:
    """A ClipEncoder that sees the middle frame of each clip in place of all its frames."""

    def __init__(self, encoder: ClipEncoder):
        self.frames, self.image, self.width = encoder.frames, encoder.image, encoder.width
        self._encoder = encoder

    def video(self, clips: np.ndarray) -> np.ndarray:
        """Returns (n, D) float32 for clips (n, T, H, W, 3) uint8."""
        middle = clips.shape[1] // 2
        return self._encoder.video(np.repeat(clips[:, middle : middle + 1], clips.shape[1], axis=1))


class _Single:
    """Yields the items with one value of the attribute; counts those with several."""

    def __init__(self, items: Iterable[Item | UnscoredClip], attribute: str | None):
        self._items = items
        self._attribute = attribute
        self.several = 0

    def __iter__(self) -> Iterator[Item | UnscoredClip]:
        for item in self._items:
            if isinstance(item, Item) and len(_values(item, self._attribute)) > 1:
                self.several += 1
            else:
                yield item


def _values(item: Item, attribute: str | None, classes: Sequence[str] = ()) -> tuple[str, ...]:
    if attribute is not None:
        return values_of(item, attribute)
    # By name, where there are names: the training set and the test set may number them differently.
    return (classes[item.label] if classes and item.label is not None else str(item.label),)


def _read(setting: Setting[Beside], path: str, attribute: str | None) -> ProbeSet:
    """Reads a set once for all encoders; the clips of a video are averaged."""
    setting = replace(setting, data=replace(setting.data, path=path))
    items = open_items(setting.data)
    labelled = Labelled(items, attribute, ())
    single = _Single(labelled, attribute)
    # Averaged as they come: all views of all clips would not fit into memory.
    embedded = embed(setting, single, len(items), fold=lambda vectors: vectors.mean(0))
    if not embedded.items and single.several:
        raise UserError(f"every clip of {path} has several values of {attribute}; a probe needs one a clip")
    if not embedded.items:
        raise labelled.missing(path)
    ends = np.cumsum(setting.encoder.widths)[:-1]
    return ProbeSet(
        embedded.items,
        tuple(_values(item, attribute, items.classes)[0] for item in embedded.items),
        tuple(np.split(embedded.vectors, ends, axis=-1)),
        {"several values": single.several, "no value": labelled.without},
        embedded.unscored,
        attribute is None and bool(items.classes),
    )


def _classes(train: ProbeSet, test: ProbeSet, suite: LinearProbe) -> tuple[str, ...]:
    """The values of both sets; the probe may name any of them."""
    name = suite.attribute or "label"
    if len(train.items) < _FEWEST:
        count = len(train.items)
        raise UserError(f"{suite.train} has {count} clips with one {name}; a probe needs {_FEWEST}")
    if len(set(train.values)) < 2:
        raise UserError(
            f"all clips of {suite.train} have the {name} {train.values[0]}; a probe needs 2 classes or more"
        )
    # Classes of the test set alone cannot be learnt, but chance must count them.
    return sorted_values((*train.values, *test.values))


def _fit(train: ProbeSet, test: ProbeSet, classes: Sequence[str], number: int) -> ProbeFit:
    x, seen = standardised(train.by_encoder[number], test.by_encoder[number])
    labels = np.array([classes.index(value) for value in train.values])
    l2 = choose_l2(x, labels, held_out([item.id for item in train.items]), len(classes))
    found = fit(x, labels, np.ones(len(x), bool), l2, len(classes))
    return ProbeFit(found.logits(seen), l2, float(found.slope))


def _metrics(
    scores: Mapping[str, np.ndarray], values: Sequence[str], classes: Sequence[str]
) -> dict[str, float]:
    """Metrics of the encoder's scores (n, classes), which have no name, and the top-1 of those beside it."""
    right = [[classes.index(value)] for value in values]
    metrics = {
        name: naming_metrics(find_ranks([some], right).places(), right, len(classes))
        for name, some in scores.items()
    }
    found = metrics.pop("")
    found |= {f"{name}_top1": beside["top1"] for name, beside in metrics.items()}
    if "random" in metrics:
        found["gain"] = round(found["top1"] - found["random_top1"], 2)
    return found


def _stated(
    setting: Setting[Probed], suite: LinearProbe, train: ProbeSet, test: ProbeSet, classes: Sequence[str]
) -> dict[str, Any]:
    known = set(train.values)
    return {
        "train": suite.train,
        "train videos": len(train.items),
        "told apart": f"the attribute {suite.attribute}" if suite.attribute else "labels",
        "classes": len(classes),
        "class names": list(classes) if len(classes) <= 20 else "all values of both sets",
        "left out of train": train.left_out,
        "left out of test": test.left_out,
        "test clips of classes that train lacks": sum(value not in known for value in test.values),
        "features": f"{setting.encoder.feature}, mean over the clips of a video, standardised by train",
        "probe": "multinomial logistic regression with L2, chosen by a fifth of train, refitted on all of it",
        "baseline": "the same architecture, random" if suite.baseline == "random" else False,
        "one frame": "the same encoder on the middle frame, repeated" if suite.still else False,
    }
