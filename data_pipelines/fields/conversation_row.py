"""A row of a batch of conversations: its arrays, and how conversations are written into it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ivjax.data_pipelines.dialogue.items import NO_PLACE, DialogueTokens
from ivjax.data_pipelines.dialogue.seeing import Seeing
from ivjax.data_pipelines.fields.conversation_field import Conversation

NOTHING = -100  # target where nothing is learned

# The arrays of a row by name, and what stands where there is no conversation. docs/stage3.md explains them.
PADDING: Mapping[str, int] = {
    "ids": 0,
    "targets": NOTHING,
    "answer_tokens": 0,
    "segments": -1,
    "positions": 0,
    "places": NO_PLACE,
    "video": 0,
    "clip_segments": -1,
    "images": 0,
    "image_segments": -1,
    "visual_segments": -1,
    "question": 0,
    "question_mask": 0,
}

RowArrays = Mapping[str, np.ndarray]  # the arrays of a row by name; a stage need not ask for all of PADDING


class _Start(NamedTuple):
    """Where a conversation begins in a row, and its number."""

    token: int
    clip: int
    image: int
    segment: int


def write_row(row: RowArrays, conversations: Sequence[Conversation], seeing: Seeing) -> None:
    """Writes conversations one after the other into the arrays of a row, and padding behind them."""
    for name, array in row.items():
        array[...] = PADDING[name]
    start = _Start(0, 0, 0, 0)
    for found in conversations:
        words = found.words.cut(len(row["ids"]) - start.token)
        _write_words(row, words, _places(row, found, words, seeing, start), start)
        _write_media(row, found, seeing, start)
        start = _Start(
            start.token + len(words.ids),
            start.clip + len(found.clips),
            start.image + len(found.images),
            start.segment + 1,
        )


def _places(
    row: RowArrays, found: Conversation, words: DialogueTokens, seeing: Seeing, start: _Start
) -> np.ndarray:
    """Returns the visual tokens of a conversation by their numbers in the row."""
    own_clips = len(found.clips) * seeing.clip_tokens
    # In a row, the tokens of all conversations' clips come before those of all images.
    to_images = _first_image_token(row, seeing) - own_clips + start.image * seeing.image_tokens
    shift = np.where(words.places >= own_clips, to_images, start.clip * seeing.clip_tokens)
    return np.where(words.places >= 0, words.places + shift, NO_PLACE)


def _first_image_token(row: RowArrays, seeing: Seeing) -> int:
    return len(row["video"]) * seeing.clip_tokens if "video" in row else 0


def _write_words(row: RowArrays, words: DialogueTokens, places: np.ndarray, start: _Start) -> None:
    # What a position has to say is the next token; the last one of a conversation says nothing.
    following = np.append(np.where(words.learned[1:], words.ids[1:], NOTHING), NOTHING)
    learned = following != NOTHING
    values = {
        "ids": words.ids,
        "targets": following[: len(words.ids)],
        "answer_tokens": np.where(learned, learned.sum(), 0)[: len(words.ids)],
        "segments": start.segment,
        "positions": np.arange(len(words.ids)),
        "places": places,
    }
    here = slice(start.token, start.token + len(words.ids))
    for name, value in values.items():
        _write(row, name, here, value)


def _write_media(row: RowArrays, found: Conversation, seeing: Seeing, start: _Start) -> None:
    clips = slice(start.clip, start.clip + len(found.clips))
    images = slice(start.image, start.image + len(found.images))
    _write(row, "video", clips, found.clips)
    _write(row, "clip_segments", clips, start.segment)
    _write(row, "images", images, found.images)
    _write(row, "image_segments", images, start.segment)
    _write(row, "visual_segments", _slots(clips, seeing.clip_tokens), start.segment)
    first = _first_image_token(row, seeing)
    _write(row, "visual_segments", _slots(images, seeing.image_tokens, first), start.segment)
    if found.question is not None:
        # What is asked about the images stands behind what is asked about all clips.
        behind = len(row["video"]) if "video" in row else 0
        for seen in (clips, slice(behind + images.start, behind + images.stop)):
            _write(row, "question", seen, found.question[0])
            _write(row, "question_mask", seen, found.question[1])


def _slots(units: slice, tokens: int, first: int = 0) -> slice:
    return slice(first + units.start * tokens, first + units.stop * tokens)


def _write(row: RowArrays, name: str, where: slice, value: object) -> None:
    if name in row:
        row[name][where] = value
