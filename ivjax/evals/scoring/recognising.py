"""Scores zero-shot recognition: a clip gets the class whose prompts it resembles most."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ivjax.data_pipelines.sources.classes import read_classes
from ivjax.errors import UserError
from ivjax.evals.encoding import PairEncoder
from ivjax.evals.items import Item, open_items
from ivjax.evals.result import Result, facts_of
from ivjax.evals.scoring.class_names import (
    ACTIONS,
    ATTRIBUTE_PROMPTS,
    Labelled,
    prompts_of,
    right_of,
    sorted_values,
    values_of,
)
from ivjax.evals.scoring.known_classes import KnownClasses
from ivjax.evals.scoring.rank_metrics import class_metrics, find_ranks
from ivjax.evals.scoring.similarity import strips
from ivjax.evals.suites.zeroshot import ZeroShot
from ivjax.evals.vectors import Setting, embed, embed_texts


def score(setting: Setting[PairEncoder], suite: ZeroShot) -> Result:
    """Returns top-1 (and top-5) accuracy in percent, and what chance would get."""
    given = read_classes(suite.classes) if suite.classes else ()
    if len(given) == 1:
        raise UserError(f"{suite.classes} names 1 class; naming needs 2 or more")
    items = open_items(setting.data)
    if suite.attribute is None:
        given = given or items.classes
        if not given:
            raise UserError(
                f"{setting.data.path} has no class names; give a file of names with --classes, or an "
                "--attribute"
            )
    # By name, where the test set has names: its numbers may be in another order than those of the file.
    known = KnownClasses(given, items.classes if suite.attribute is None else ())
    labelled = Labelled(known.renumbered(items), suite.attribute, given)
    embedded = embed(setting, labelled, len(items))
    if not embedded.items:
        raise labelled.missing(setting.data.path)
    classes = given or _all_values(embedded.items, suite.attribute)
    right = [right_of(item, suite.attribute, classes) for item in embedded.items]
    vectors = class_vectors(setting.encoder, classes, templates_of(suite))
    places = find_ranks(strips(embedded.vectors, vectors, suite.scoring), right).places()
    facts = facts_of(setting, len(embedded.items), silent=embedded.silent) | {
        "clips without a label": labelled.without,
        **_stated(suite, classes, right),
    }
    metrics = naming_metrics(places, right, len(classes))
    by_class = scores_by_class(places, right, classes.__getitem__)
    return Result(suite.name, facts, metrics, embedded.unscored, by_class)


def templates_of(suite: ZeroShot) -> tuple[str, ...]:
    """Returns the prompts; none stands for the 16 of action recognition."""
    return suite.prompts or (() if suite.attribute in (None, *ACTIONS) else ATTRIBUTE_PROMPTS)


def class_vectors(encoder: PairEncoder, classes: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """Returns (classes, D): the mean over the prompts of each, not of unit length: cosines are averaged."""
    # Normalising the mean would weigh classes by how much their prompts agree.
    prompts = [prompts_of(name, templates) for name in classes]
    vectors = embed_texts(encoder, [prompt for some in prompts for prompt in some])
    return vectors.reshape(len(classes), len(prompts[0]), -1).mean(1)


def naming_metrics(places: np.ndarray, right: Sequence[Sequence[int]], classes: int) -> dict[str, float]:
    """Returns accuracies, and what guessing and always saying the most frequent class would get."""
    chance = 100 * float(np.mean([len(some) / classes for some in right]))
    frequent = max(sum(number in some for some in right) for number in range(classes))
    found = class_metrics(places, classes)
    found |= {"chance": chance, "times_chance": found["top1"] / chance}
    found["most_frequent"] = 100 * frequent / len(right)
    # Clips with several right classes are easier; the others alone can be compared with other test sets.
    single = np.array([len(some) == 1 for some in right])
    if single.any() and not single.all():
        found["single_top1"] = 100 * float(np.mean(places[single] == 0))
        found["single_chance"] = 100 / classes
    return {name: round(value, 2) for name, value in found.items()}


def scores_by_class(
    places: np.ndarray, right: Sequence[Sequence[int]], name: Callable[[int], str | None]
) -> tuple[dict[str, Any], ...]:
    """Returns number, name, clips and top-1 accuracy in percent of each class that some clip has."""
    found = []
    for number in sorted({number for some in right for number in some}):
        hits = places[[number in some for some in right]] == 0
        top1 = round(100 * float(np.mean(hits)), 2)
        found.append({"class": number, "name": name(number), "clips": len(hits), "top1": top1})
    return tuple(found)


def _all_values(items: Sequence[Item], attribute: str | None) -> tuple[str, ...]:
    assert attribute is not None
    classes = sorted_values(value for item in items for value in values_of(item, attribute))
    if len(classes) < 2:
        raise UserError(f"all clips have the {attribute} {classes[0]!r}; naming needs 2 classes or more")
    return classes


def _stated(suite: ZeroShot, classes: Sequence[str], right: Sequence[Sequence[int]]) -> dict[str, Any]:
    scoring, several = suite.scoring, sum(len(some) > 1 for some in right)
    counted = f"one for each of {len(right)} clips"
    if several:
        counted = f"any of its values; {several} of {len(right)} clips have several, the others are `single`"
    return {
        "named": f"the attribute {suite.attribute}" if suite.attribute else "labels",
        "classes": len(classes),
        "class names": list(classes) if len(classes) <= 20 else str(suite.classes or "all values"),
        "prompts": list(templates_of(suite)) or "the 16 of action recognition",
        "score": "mean over prompts of the cosine",
        "right for a clip": counted,
        "aggregation of clips": scoring.aggregate,
        "dual softmax": f"softmax of {scoring.dsl_scale:g} * score over all clips" if scoring.dsl else False,
        "ties": "expected",
    }
