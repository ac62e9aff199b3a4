"""Conversations about media in the layouts of VideoChat2, LLaVA and question-answer sets."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ivjax.data_pipelines.sources.tables import Record
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


def is_instruction(record: Record) -> bool:
    """Whether a row of a table is a conversation."""
    return any(name in record for name in COLUMNS)


def conversation_of(record: Record) -> tuple[Turn, ...]:
    """Returns the turns of a row, without the placeholders that stand for the media.

    `QA` pairs (VideoChat2), `conversations` (LLaVA), or `question` and `answer`; of several answers to
    one question the most frequent, and the first of those.
    """
    if "QA" in record:
        turns = list(_question_turns(_objects(record, "QA")))
    elif "conversations" in record:
        turns = [_turn(turn) for turn in _objects(record, "conversations")]
    else:
        turns = [Turn("user", _text(record, "question")), Turn("assistant", _answer(record.get("answer")))]
    if not any(turn.role == "assistant" and turn.text for turn in turns):
        raise ValueError("its conversation has no answer")
    return tuple(turns)


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
    # Where the media go is for the model to say: LLaVA's place differs from that of VideoChat.
    for placeholder in _PLACEHOLDERS:
        text = text.replace(placeholder, "")
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
