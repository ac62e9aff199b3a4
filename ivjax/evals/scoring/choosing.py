"""Scores multiple choice: which of a video's own options fits it, or which ones where several are right."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ivjax.data_pipelines.tokenizers.caption_text import clean_caption
from ivjax.errors import UserError
from ivjax.evals.encoding import PairEncoder
from ivjax.evals.items import ANSWERS, Item, UnscoredClip, open_items
from ivjax.evals.judging import embed_for
from ivjax.evals.result import Result, facts_of
from ivjax.evals.scoring.options import option_scores
from ivjax.evals.scoring.rank_metrics import average_precisions, choice_accuracy
from ivjax.evals.scoring.similarity import softmax
from ivjax.evals.suites.choice import MultipleChoice
from ivjax.evals.suites.protocols import protocol_named
from ivjax.evals.vectors import Setting


def score(setting: Setting[PairEncoder], suite: MultipleChoice = MultipleChoice()) -> Result:
    """Returns accuracy in percent, or mAP in percent if the right options are given as a list."""
    protocol = protocol_named(suite.protocol, "choice")
    items = open_items(setting.data)
    embedded, tokens = embed_for(setting, suite, _checked(items), len(items))
    if not embedded.items:
        raise UserError(f"{setting.data.path} has no question to be answered")
    several = any(ANSWERS in item.attributes for item in embedded.items)
    asked = [(n, [clean_caption(text) for text in item.captions]) for n, item in enumerate(embedded.items)]
    found = option_scores(setting.encoder, suite, embedded.vectors, tokens, asked)
    # The logit of a match is compared as it is, as in the originals.
    scale = 1.0 if suite.judges else suite.temperature
    scores = [softmax(row / scale) for row in found]
    score_told = "the logit of a match" if suite.judges else f"cosine / {suite.temperature:g}"
    facts = facts_of(setting, len(embedded.items), silent=embedded.silent) | {
        "protocol": f"{suite.protocol}: {protocol.about}",
        "the originals use": {"frames": protocol.frames, "text length": protocol.text_length},
        "options a video": _counts(embedded.items),
        "score": f"softmax over the options of {score_told}",
        "aggregation of clips": suite.aggregate,
        "right options": "several: mean average precision over options" if several else "one: accuracy",
    }
    metrics = _several(embedded.items, scores) if several else _one(embedded.items, scores)
    return Result(suite.name, facts, metrics, embedded.unscored)


def _checked(items: Iterable[Item | UnscoredClip]) -> Iterator[Item | UnscoredClip]:
    for item in items:
        if isinstance(item, Item):
            _check(item)
        yield item


def _check(item: Item) -> None:
    count = len(item.captions)
    if count < 2:
        raise UserError(f"clip {item.id} has {count} options; multiple choice needs at least 2")
    if item.label is None and ANSWERS not in item.attributes:
        raise UserError(f"clip {item.id} has no answer; the column `answer` holds the right option's number")
    wrong = next((answer for answer in _answers(item) if not 0 <= answer < count), None)
    if wrong is not None:
        raise UserError(
            f"the answer of clip {item.id} is option {wrong}, and its options are 0 to {count - 1}"
        )


def _answers(item: Item) -> list[int]:
    if ANSWERS in item.attributes:
        return [int(number) for number in item.attributes[ANSWERS].split()]
    return [] if item.label is None else [item.label]


def _one(items: Sequence[Item], scores: Sequence[np.ndarray]) -> dict[str, float]:
    answers = [item.label for item in items if item.label is not None]
    # The mean of the shares, because questions may have different numbers of options.
    chance = 100 * float(np.mean([1 / len(row) for row in scores]))
    return {"accuracy": round(choice_accuracy(scores, answers), 2), "chance": round(chance, 2)}


def _several(items: Sequence[Item], scores: Sequence[np.ndarray]) -> dict[str, float]:
    other = next((item for item in items if item.captions != items[0].captions), None)
    if other is not None:
        raise UserError(
            f"clips {items[0].id} and {other.id} have different options; where several are right, "
            "all clips choose from one list"
        )
    right = np.zeros((len(items), len(items[0].captions)), bool)
    for row, item in zip(right, items, strict=True):
        row[_answers(item)] = True
    found = {"map": average_precisions(np.stack(scores), right).mean(), "right_share": right.mean()}
    return {name: round(100 * float(value), 2) for name, value in found.items()}


def _counts(items: Sequence[Item]) -> str:
    counts = sorted({len(item.captions) for item in items})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
