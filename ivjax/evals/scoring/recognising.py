"""Zero-shot recognition: a clip gets the class whose prompts it resembles most."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.errors import UserError
from ivjax.evals.vectors import Setting, embed, embed_texts
from ivjax.evals.encoding import Encoder
from ivjax.evals.items import Item, open_items
from ivjax.evals.scoring.metrics import class_metrics, find_ranks
from ivjax.evals.scoring.class_names import (
    ACTIONS,
    ATTRIBUTE_PROMPTS,
    Labelled,
    check_prompts,
    prompts_of,
    read_classes,
    right_of,
    sorted_values,
    values_of,
)
from ivjax.evals.result import Result, facts_of
from ivjax.evals.scoring.similarity import Scoring, strips


@dataclass(frozen=True)
class NamingOptions:
    """What is named, and in which words.

    attribute: names of it are the classes, instead of numbered labels; `caption` is the only caption of a
    row. classes: a file of class names; without one, all values of the attribute. prompts: templates with
    {} for the name; without any, the 16 of action recognition, and one for attributes.
    """

    attribute: str | None = None
    classes: Path | None = None
    prompts: tuple[str, ...] = ()
    scoring: Scoring = Scoring()

    def __post_init__(self) -> None:
        check_prompts(self.prompts)
        if self.attribute is None and self.classes is None:
            raise UserError("zero-shot naming needs classes: give a file of names, or an attribute")

    @property
    def templates(self) -> tuple[str, ...]:
        """The prompts; none stands for the 16 of action recognition."""
        return self.prompts or (() if self.attribute in (None, *ACTIONS) else ATTRIBUTE_PROMPTS)


def name_clips(setting: Setting[Encoder], options: NamingOptions) -> Result:
    """Top-1 (and top-5) accuracy in percent, and what chance would get."""
    given = read_classes(options.classes) if options.classes else ()
    items = open_items(setting.data)
    labelled = Labelled(items, options.attribute, given)
    embedded = embed(setting, labelled, len(items))
    if not embedded.items:
        raise labelled.missing(setting.data.path)
    classes = given or _all_values(embedded.items, options.attribute)
    right = [right_of(item, options.attribute, classes) for item in embedded.items]
    vectors = class_vectors(setting.encoder, classes, options.templates)
    places = find_ranks(strips(embedded.vectors, vectors, options.scoring), right).places()
    facts = facts_of(setting, len(embedded.items)) | {
        "clips without a label": labelled.without,
        **_stated(options, classes, right),
    }
    return Result("zeroshot", facts, naming_metrics(places, right, len(classes)), embedded.faults)


def class_vectors(encoder: Encoder, classes: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """(classes, D): the mean over the prompts of each, not of unit length, so that cosines are averaged."""
    prompts = [prompts_of(name, templates) for name in classes]
    vectors = embed_texts(encoder, [prompt for some in prompts for prompt in some])
    return vectors.reshape(len(classes), len(prompts[0]), -1).mean(1)


def naming_metrics(places: np.ndarray, right: Sequence[Sequence[int]], classes: int) -> dict[str, float]:
    """Accuracies, beside what guessing gets and what always saying the most frequent class gets."""
    chance = 100 * float(np.mean([len(some) / classes for some in right]))
    frequent = max(sum(number in some for some in right) for number in range(classes))
    found = class_metrics(places, classes)
    found |= {"chance": chance, "times_chance": found["top1"] / chance}
    found["most_frequent"] = 100 * frequent / len(right)
    single = np.array([len(some) == 1 for some in right])
    if single.any() and not single.all():
        found["single_top1"] = 100 * float(np.mean(places[single] == 0))
        found["single_chance"] = 100 / classes
    return {name: round(value, 2) for name, value in found.items()}


def _all_values(items: Sequence[Item], attribute: str | None) -> tuple[str, ...]:
    assert attribute is not None
    classes = sorted_values(value for item in items for value in values_of(item, attribute))
    if len(classes) < 2:
        raise UserError(f"all clips have the {attribute} {classes[0]!r}; naming needs 2 classes or more")
    return classes


def _stated(options: NamingOptions, classes: Sequence[str], right: Sequence[Sequence[int]]) -> dict[str, Any]:
    scoring, several = options.scoring, sum(len(some) > 1 for some in right)
    counted = f"one for each of {len(right)} clips"
    if several:
        counted = f"any of its values; {several} of {len(right)} clips have several, the others are `single`"
    return {
        "named": f"the attribute {options.attribute}" if options.attribute else "labels",
        "classes": len(classes),
        "class names": list(classes) if len(classes) <= 20 else str(options.classes or "all values"),
        "prompts": list(options.templates) or "the 16 of action recognition",
        "score": "mean over prompts of the cosine",
        "right for a clip": counted,
        "aggregation of clips": scoring.aggregate,
        "dual softmax": f"softmax of {scoring.dsl_scale:g} * score over all clips" if scoring.dsl else False,
        "ties": "expected",
    }
