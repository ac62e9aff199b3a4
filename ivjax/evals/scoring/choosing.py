"""Scores multiple choice: which of a video's own options fits it, or which ones where several are right."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ivjax.data_pipelines.tokenizers.caption_text import clean_caption
from ivjax.errors import UserError
from ivjax.evals.encoding import PairEncoder
from ivjax.evals.items import ANSWERS, Item, UnscoredClip, open_items
from ivjax.evals.result import Result, facts_of
from ivjax.evals.scoring.rank_metrics import average_precisions, choice_accuracy
from ivjax.evals.scoring.similarity import similarity, softmax, unit_mean
from ivjax.evals.suites.choice import MultipleChoice
from ivjax.evals.suites.protocols import protocol_named
from ivjax.evals.suites.suite import Aggregate
from ivjax.evals.vectors import Setting, embed, embed_texts


def score(setting: Setting[PairEncoder], suite: MultipleChoice = MultipleChoice()) -> Result:
    """Returns accuracy in percent, or mAP in percent if the right options are given as a list."""
    protocol = protocol_named(suite.protocol, "choice")
    items = open_items(setting.data)
    embedded = embed(setting, _checked(items), len(items))
    if not embedded.items:
        raise UserError(f"{setting.data.path} has no question to be answered")
    several = any(ANSWERS in item.attributes for item in embedded.items)
    scores = _probabilities(setting, embedded.items, embedded.vectors, suite)
    facts = facts_of(setting, len(embedded.items)) | {
        "protocol": f"{suite.protocol}: {protocol.about}",
        "the originals use": {"frames": protocol.frames, "text length": protocol.text_length},
        "options a video": _counts(embedded.items),
        "score": f"softmax over the options of cosine / {suite.temperature:g}",
        "aggregation of clips": suite.aggregate,
        "right options": "several: mean average precision over options" if several else "one: accuracy",
    }
    metrics = _several(embedded.items, scores) if several else _one(embedded.items, scores)
    return Result(suite.name, facts, metrics, embedded.unscored)


def option_scores(
    video: np.ndarray, options: np.ndarray, temperature: float, aggregate: Aggregate = "embedding"
) -> np.ndarray:
    """Returns the probabilities (options,) of options (options, D) for one video ([clips,] D)."""
    clips = video.reshape(1, -1, video.shape[-1])
    if aggregate == "embedding":
        return softmax(similarity(unit_mean(clips), options)[0] / temperature)
    return softmax(similarity(clips, options, aggregate)[0] / temperature)


def _probabilities(
    setting: Setting, items: Sequence[Item], vectors: np.ndarray, suite: MultipleChoice
) -> list[np.ndarray]:
    # All videos may share hundreds of options: each is encoded once, and gathered for one video at a time.
    cleaned = {text: clean_caption(text) for item in items for text in item.captions}
    encoded = embed_texts(setting.encoder, list(cleaned.values()))
    places = {text: place for place, text in enumerate(cleaned)}
    return [
        option_scores(
            video,
            encoded[[places[text] for text in item.captions]],
            suite.temperature,
            suite.aggregate,
        )
        for video, item in zip(vectors, items, strict=True)
    ]


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
