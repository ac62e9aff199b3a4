"""Columns of annotation tables, found by any of their published names."""

import functools
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ivjax.data_pipelines.sources.row import BadRow
from ivjax.data_pipelines.sources.times import check_span, parse_time
from ivjax.errors import UserError

# Dataset cards, exports and the originals' readers name the same columns differently.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("youtubeid", "youtube_id", "video_id", "videoid", "video_name", "ytid", "id"),
    "path": ("path", "file", "file_name", "filename", "filepath", "video", "image"),
    "start": ("start_timestamp", "start", "start_time", "time_start", "start_sec", "start_second", "begin"),
    "end": ("end_timestamp", "end", "end_time", "time_end", "end_sec", "end_second", "stop"),
    "captions": ("captions", "caption", "text", "description", "sentence", "sentences"),
    # Captions of one kind alone, beside those above.
    "video": ("video_captions", "video_caption", "selected_video_caption"),
    "audio": ("audio_captions", "audio_caption", "selected_audio_caption"),
    "speech": ("asr_captions", "asr_caption", "asr", "speech_captions", "speech_caption", "speech"),
    "label": ("label", "class", "class_id", "target", "class_name", "label_name"),
    "answer": ("answer",),
    "attributes": ("attributes",),
    "fps": ("video_fps", "fps"),
    "start_frame": ("video_start_frame", "start_frame"),
    "end_frame": ("video_end_frame", "end_frame"),
}


class ClassLabel(NamedTuple):
    """The class that a label stands for: by number, by name, or neither."""

    number: int | None = None
    name: str = ""


_NO_CLASS = ClassLabel()
_KINDS = ("video", "audio", "speech")  # of captions
_SCORE_ENDINGS = ("score", "similarity")
_LOOKED_AT = 20  # rows; one bad row at the top must not make a good table unreadable


def column(record: Mapping[str, Any], kind: str) -> Any:
    """Returns the value of the first filled column of a kind; None if there is none."""
    names = _known_names(tuple(record))[kind]
    return next((record[name] for name in names if record[name] is not None), None)


@functools.lru_cache(maxsize=1024)
def _known_names(names: tuple[str, ...]) -> Mapping[str, Sequence[str]]:
    """Returns the names that stand for each kind, the best first. Cached for the next rows."""
    known = {plain(name): name for name in names}
    return {kind: [known[alias] for alias in aliases if alias in known] for kind, aliases in ALIASES.items()}


def has_column(record: Mapping[str, Any], kind: str) -> bool:
    """Whether the record has a column of a kind, even an empty one."""
    return any(plain(name) in ALIASES[kind] for name in record)


def with_columns(
    table: Path,
    found: Iterator[tuple[str, Mapping[str, Any]] | BadRow],
    wanted: Mapping[str, Sequence[str]],
) -> Iterator[tuple[str, Mapping[str, Any]] | BadRow]:
    """Yields the same rows; raises UserError if no column of a wanted kind is in the first rows."""
    head = list(itertools.islice(found, _LOOKED_AT))
    records = [item[1] for item in head if not isinstance(item, BadRow)]
    there = {plain(name) for record in records for name in record}
    for kind, names in wanted.items():
        if records and there.isdisjoint(plain(name) for name in names):
            has = ", ".join(dict.fromkeys(str(name) for record in records for name in record))
            raise UserError(f"{table} has no column for {kind} (any of: {', '.join(names)}); it has {has}")
    return itertools.chain(head, found)


def captions_of(value: Any) -> tuple[str, ...]:
    """Returns the captions of a text or a list of texts; ValueError if one is empty."""
    values: list[Any] = [value] if isinstance(value, str) or value is None else list(value)
    captions = tuple(text.strip() if isinstance(text, str) else "" for text in values)
    if not captions or not all(captions):
        raise ValueError("its caption is empty")
    return captions


def texts_of(record: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Returns the captions of what is seen, heard or said alone, by kind; empty ones are left out."""
    found = {kind: column(record, kind) for kind in _KINDS}
    listed = {kind: [value] if isinstance(value, str) else value for kind, value in found.items()}
    texts = {
        kind: tuple(text.strip() for text in values if isinstance(text, str) and text.strip())
        for kind, values in listed.items()
        if isinstance(values, list | tuple)
    }
    return {kind: values for kind, values in texts.items() if values}


def times_of(record: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Returns start and end in seconds, from times or from frames; None where the record has none."""
    start, end = (column(record, kind) for kind in ("start", "end"))
    if start is None and end is None:
        start, end = _frame_times(record)
    # -1 is how the originals' lists say "the whole file".
    start, end = (None if value in (None, "", -1, "-1") else parse_time(value) for value in (start, end))
    check_span(start, end)
    return start, end


def _frame_times(record: Mapping[str, Any]) -> tuple[Any, Any]:
    frames = [column(record, kind) for kind in ("start_frame", "end_frame")]
    if frames == [None, None]:
        return None, None
    fps = column(record, "fps")
    if not fps or not float(fps) > 0:
        raise ValueError("its times are frames, and it has no video_fps to turn them into seconds")
    start, end = (None if frame is None else float(frame) / float(fps) for frame in frames)
    return start, end


def scores_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns every filled column whose name ends in score or similarity."""
    filled = ((name, value) for name, value in record.items() if value not in (None, ""))
    scores = {name: _score(name, value) for name, value in filled if plain(name).endswith(_SCORE_ENDINGS)}
    # pandas writes gaps as NaN; a row without a score has none.
    return {name: value for name, value in scores.items() if not math.isnan(value)}


def _score(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"its {name} {value!r} is not a number") from None


def class_of(record: Mapping[str, Any]) -> ClassLabel:
    """Returns the class of a row; the number of the right option is one."""
    found = read_class(column(record, "label"))
    if found != _NO_CLASS:
        return found
    # The answer to a question may be a word, and is no class then.
    return ClassLabel(read_class(column(record, "answer")).number)


def read_class(value: Any) -> ClassLabel:
    """Returns the class that a label stands for: a number, a name, or none (empty, -1, 2.5)."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        # A table with gaps holds 3 as 3.0. Python would read 1_2 as 12.
        number = float(value) if "_" not in text else None
    except (TypeError, ValueError):
        number = None
    if number is None:
        return ClassLabel(name=text)
    return ClassLabel(int(number)) if number.is_integer() and number >= 0 else _NO_CLASS


def attributes_of(record: Mapping[str, Any], names: Sequence[str] = ()) -> dict[str, str]:
    """Returns the column of attributes (JSON in a CSV) and further columns by name, as words."""
    found = column(record, "attributes") or {}
    try:
        found = json.loads(found) if isinstance(found, str) else found
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, Mapping):
        raise ValueError("its attributes are not an object of words")
    further = {name: value for name, value in record.items() if plain(name) in names and value}
    return {str(name): str(value) for name, value in {**found, **further}.items() if value is not None}


@functools.lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """Returns the name of a column in lower case with underscores."""
    return str(name).strip().lower().replace(" ", "_")
