"""Conversations about media in the layouts of VideoChat2, LLaVA and question-answer sets."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ivjax.data_pipelines.sources.choices import lettered, options_column
from ivjax.data_pipelines.sources.row import RowError
from ivjax.data_pipelines.sources.tables import Record
from ivjax.data_pipelines.store.dialogues import MEDIA_MARK
from ivjax.data_pipelines.store.records import Turn

COLUMNS = ("QA", "conversations", "question")
_ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_PLACEHOLDERS = ("<image>", "<video>")
_KINDS = ("question_type", "type", "task", "task_type")
_NEEDLE = ("depth", "frames", "hops")  # columns of long videos with a needle


def is_instruction(record: Record) -> bool:
    """Whether a row of a table is a conversation."""
    return any(name in record for name in COLUMNS)


def conversation_of(record: Record, media: int = 1) -> tuple[Turn, ...]:
    """Returns the turns of a row about so many media.

    `QA` pairs (VideoChat2), `conversations` (LLaVA), or `question` and `answer`; of several answers to
    one question the most frequent, and the first of those. With `options`, the question is multiple choice.
    A conversation about one medium has no mark of it, unless it speaks of it in the middle of a text.
    """
    if "QA" in record:
        turns = list(_question_turns(_objects(record, "QA")))
    elif "conversations" in record:
        turns = [_turn(turn) for turn in _objects(record, "conversations")]
    elif (name := options_column(record)) is not None:
        asked = lettered(_text(record, "question"), record[name], record.get("answer"))
        turns = [Turn("user", asked.question), Turn("assistant", asked.answer)]
    else:
        turns = [Turn("user", _text(record, "question")), Turn("assistant", _answer(record.get("answer")))]
    if not any(turn.role == "assistant" and turn.text for turn in turns):
        raise RowError("its conversation has no answer", "no answer")
    marks = sum(turn.text.count(MEDIA_MARK) for turn in turns)
    if marks > media:
        raise ValueError(f"its conversation speaks of {marks} images or videos, and it has {media}")
    return tuple(_without_leading(turns, media))


def _without_leading(turns: list[Turn], media: int) -> Iterator[Turn]:
    """Yields turns without the marks that a first question begins with, where they are all that there are."""
    first = next((number for number, turn in enumerate(turns) if turn.role == "user"), 0)
    for number, turn in enumerate(turns):
        text = turn.text
        if number == first:
            bare = text
            for _ in range(media):
                bare = bare.removeprefix(MEDIA_MARK).lstrip()
            # Where the media go is for the style to say, if they come first.
            text = bare if MEDIA_MARK not in bare else text
        yield Turn(turn.role, text.strip())


def attributes_of(record: Record) -> dict[str, str]:
    """Returns the kind of a question, and where in how long a video its needle is, for evals."""
    kind = next((record[name] for name in _KINDS if isinstance(record.get(name), str) and record[name]), None)
    found = {} if kind is None else {"question": kind}
    if isinstance(record.get("depth"), int | float):
        found |= {name: str(record[name]) for name in _NEEDLE if record.get(name) is not None}
    return found


def _question_turns(pairs: list[Mapping[str, Any]]) -> Iterator[Turn]:
    """Yields the turns of VideoChat2's pairs. Only the first pair's instruction `i` counts."""
    if pairs and (instruction := _text(pairs[0], "i")):
        yield Turn("system", instruction)
    for pair in pairs:
        yield Turn("user", _text(pair, "q"))
        yield Turn("assistant", _text(pair, "a"))


def _turn(turn: Mapping[str, Any]) -> Turn:
    role = str(turn.get("from", turn.get("role")))
    if role not in _ROLES:
        raise ValueError(f"its conversation has a turn of {role!r}")
    text = _text(turn, "value" if "value" in turn else "content")
    for placeholder in _PLACEHOLDERS:
        text = text.replace(placeholder, MEDIA_MARK if _ROLES[role] == "user" else "")
    return Turn(_ROLES[role], text.strip())


def _answer(value: Any) -> str:
    if isinstance(value, list) and value:
        value = Counter(value).most_common(1)[0][0]
    return _text({"answer": value}, "answer")


def _objects(record: Record, name: str) -> list[Mapping[str, Any]]:
    found = record[name]
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise ValueError(f"its {name} is not a list of objects")
    return found


def _text(record: Mapping[str, Any], name: str) -> str:
    """Returns a text; empty if it is missing."""
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"its {name} {value!r} is not text")
    return (value or "").strip()
