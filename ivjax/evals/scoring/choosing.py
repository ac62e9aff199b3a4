"""Multiple choice: which of a video's own options fits it; or which ones, where several are right."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ivjax.data_pipelines.tokenizers.text import clean_caption
from ivjax.errors import UserError
from ivjax.evals.vectors import Setting, embed, embed_texts
from ivjax.evals.encoding import Encoder
from ivjax.evals.items import UnscoredClip, Item, open_items
from ivjax.evals.scoring.metrics import average_precisions, choice_accuracy
from ivjax.evals.suites.protocols import protocol_named
from ivjax.evals.result import Result, facts_of
from ivjax.evals.scoring.similarity import Aggregate, Scoring, similarity, softmax, unit_mean


@dataclass(frozen=True)
class ChoiceOptions:
    """temperature: what cosines are divided by before the softmax over options, which mAP depends on."""

    protocol: str = "choice"
    scoring: Scoring = Scoring()
    temperature: float = 0.01

    def __post_init__(self) -> None:
        if self.scoring.dsl:
            raise UserError("multiple choice has no dual softmax: every video has its own options")
        if not self.temperature > 0:
            raise UserError(f"the temperature is {self.temperature}; it must be above 0")


def choose(setting: Setting[Encoder], options: ChoiceOptions = ChoiceOptions()) -> Result:
    """Accuracy in percent, or mAP in percent if the right options are given as a list."""
    protocol = protocol_named(options.protocol)
    items = open_items(setting.data)
    embedded = embed(setting, _checked(items), len(items))
    if not embedded.items:
        raise UserError(f"{setting.data.path} has no question to be answered")
    several = any("answers" in item.attributes for item in embedded.items)
    scores = _probabilities(setting, embedded.items, embedded.vectors, options)
    facts = facts_of(setting, len(embedded.items)) | {
        "protocol": f"{options.protocol}: {protocol.about}",
        "the originals use": {"frames": protocol.frames, "text length": protocol.text_length},
        "options a video": _counts(embedded.items),
        "score": f"softmax over the options of cosine / {options.temperature:g}",
        "aggregation of clips": options.scoring.aggregate,
        "right options": "several: mean average precision over options" if several else "one: accuracy",
    }
    metrics = _several(embedded.items, scores) if several else _one(embedded.items, scores)
    return Result("retrieval", facts, metrics, embedded.faults)


def option_scores(
    video: np.ndarray, options: np.ndarray, temperature: float, aggregate: Aggregate = "embedding"
) -> np.ndarray:
    """Probabilities (options,) of one video's ([clips,] D) options (options, D)."""
    clips = video.reshape(1, -1, video.shape[-1])
    if aggregate == "embedding":
        return softmax(similarity(unit_mean(clips), options)[0] / temperature)
    return softmax(similarity(clips, options, aggregate)[0] / temperature)


def _probabilities(
    setting: Setting, items: Sequence[Item], vectors: np.ndarray, options: ChoiceOptions
) -> list[np.ndarray]:
    # All videos may share hundreds of options: each is encoded once, and gathered for one video at a time.
    cleaned = {text: clean_caption(text) for item in items for text in item.captions}
    encoded = embed_texts(setting.encoder, list(cleaned.values()))
    places = {text: place for place, text in enumerate(cleaned)}
    return [
        option_scores(
            video,
            encoded[[places[text] for text in item.captions]],
            options.temperature,
            options.scoring.aggregate,
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
    if item.label is None and "answers" not in item.attributes:
        raise UserError(f"clip {item.id} has no answer; the column `answer` holds the right option's number")
    wrong = next((answer for answer in _answers(item) if not 0 <= answer < count), None)
    if wrong is not None:
        raise UserError(
            f"the answer of clip {item.id} is option {wrong}, and its options are 0 to {count - 1}"
        )


def _answers(item: Item) -> list[int]:
    if "answers" in item.attributes:
        return [int(number) for number in item.attributes["answers"].split()]
    return [] if item.label is None else [item.label]


def _one(items: Sequence[Item], scores: Sequence[np.ndarray]) -> dict[str, float]:
    answers = [item.label for item in items if item.label is not None]
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
