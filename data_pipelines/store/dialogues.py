"""Stored conversations: what is said about parts of videos and images, each of which is stored once.

A record is `IVJD` and a JSON object. Its parts name records of the same corpus by number.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ivjax.data_pipelines.store.records import ClipError, MediaKind, Turn

MEDIA_MARK = "<media>"  # stands in a user's turn for the next of the conversation's media
_MAGIC = b"IVJD"


@dataclass(frozen=True)
class MediaPart:
    """A part of a stored clip, or all of it.

    The facts about the clip are here too, so that a run can plan its batches without reading any media.

    Attributes:
        record: number of the clip in its corpus.
        kind: what it is.
        first: its first frame.
        stop: the frame after its last one.
        fps: frame rate; 0 for images.
        width: pixels of a row.
        height: pixels of a column.
    """

    record: int
    kind: MediaKind
    first: int
    stop: int
    fps: float
    width: int
    height: int

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.stop - self.first

    @property
    def seconds(self) -> float:
        """How long it lasts; 0 for images."""
        return self.frames / self.fps if self.fps else 0.0


@dataclass(frozen=True)
class Dialogue:
    """A stored conversation.

    Attributes:
        id: unique in its corpus.
        media: what it is about, in the order in which it speaks of it.
        turns: who says what; `MEDIA_MARK` stands for media where they do not come first of all.
        attributes: words for evals and filters, such as the kind of question.
    """

    id: str
    media: tuple[MediaPart, ...]
    turns: tuple[Turn, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)


def pack_dialogue(dialogue: Dialogue) -> bytes:
    """Returns the record of a conversation."""
    content: dict[str, Any] = {
        "id": dialogue.id,
        "media": [asdict(part) for part in dialogue.media],
        "turns": [[turn.role, turn.text] for turn in dialogue.turns],
        "attributes": dict(dialogue.attributes),
    }
    return _MAGIC + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def unpack_dialogue(record: bytes) -> Dialogue:
    """Returns the conversation of a record; raises ClipError if it is damaged."""
    if not record.startswith(_MAGIC):
        raise ClipError("not a record", f"it starts with {record[:4]!r}, not {_MAGIC!r}")
    try:
        content = json.loads(record[len(_MAGIC) :].decode())
        dialogue = Dialogue(
            content["id"],
            tuple(MediaPart(**part) for part in content["media"]),
            tuple(Turn(role, text) for role, text in content["turns"]),
            content["attributes"],
        )
        _check_types(dialogue)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ClipError("bad header", f"the conversation is damaged: {error}") from None
    return dialogue


def _check_types(dialogue: Dialogue) -> None:
    """Raises TypeError for a value of another type than the declared one."""
    words = [dialogue.id, *(word for turn in dialogue.turns for word in (turn.role, turn.text))]
    words += [word for pair in dialogue.attributes.items() for word in pair]
    if not all(isinstance(word, str) for word in words):
        raise TypeError("a word of it is no text")
    for part in dialogue.media:
        counts = part.record, part.first, part.stop, part.width, part.height
        # Not isinstance, for which true is a whole number.
        if any(type(count) is not int for count in counts) or type(part.fps) not in (int, float):
            raise TypeError("a number of its media is none")
        if part.kind not in ("video", "image"):
            raise TypeError(f"a medium of it is {part.kind!r}, neither video nor image")


def check_dialogue(dialogue: Dialogue, clips: int) -> None:
    """Raises ClipError for one without an answer, or about what a corpus of so many clips lacks."""
    if not any(turn.role == "assistant" and turn.text for turn in dialogue.turns):
        raise ClipError("no answer", f"conversation {dialogue.id} has none")
    for part in dialogue.media:
        if not (0 <= part.record < clips and 0 <= part.first < part.stop):
            asked = f"frames {part.first} to {part.stop} of clip {part.record} of {clips}"
            raise ClipError("wrong media", f"conversation {dialogue.id} is about {asked}")
