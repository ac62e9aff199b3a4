"""Columns by any of the names under which they are published."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ivjax.data_pipelines.sources.times import parse_time

ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("youtubeid", "youtube_id", "video_id", "videoid", "video_name", "ytid", "id"),
    "path": ("path", "file", "file_name", "filename", "filepath", "video", "image"),
    "start": ("start_timestamp", "start", "start_time", "start_sec", "start_second", "begin"),
    "end": ("end_timestamp", "end", "end_time", "end_sec", "end_second", "stop"),
    "captions": ("captions", "caption", "text", "description", "sentence", "sentences"),
    "label": ("label", "class", "class_id", "target", "answer"),
    "attributes": ("attributes",),
    "fps": ("video_fps", "fps"),
    "start_frame": ("video_start_frame", "start_frame"),
    "end_frame": ("video_end_frame", "end_frame"),
}
_SCORE_ENDINGS = ("score", "similarity")


def column(record: Mapping[str, Any], kind: str) -> Any:
    """The value of the first alias of `kind` that the record has; None if it has none."""
    known = {_plain(name): value for name, value in record.items()}
    return next((known[alias] for alias in ALIASES[kind] if known.get(alias) is not None), None)


def has_column(record: Mapping[str, Any], kind: str) -> bool:
    """Whether the record has any alias of `kind`, even an empty one."""
    return bool({_plain(name) for name in record} & set(ALIASES[kind]))


def captions_of(value: Any) -> tuple[str, ...]:
    """A caption, or a list of them; ValueError if there is none with a letter in it."""
    values: list[Any] = [value] if isinstance(value, str) or value is None else list(value)
    captions = tuple(text.strip() if isinstance(text, str) else "" for text in values)
    if not captions or not all(captions):
        raise ValueError("its caption is empty")
    return captions


def times_of(record: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Start and end in seconds, from times or from frames; None where the record does not say."""
    start, end = (column(record, kind) for kind in ("start", "end"))
    if start is None and end is None:
        start, end = _frame_times(record)
    times = [None if value in (None, "", -1, "-1") else parse_time(value) for value in (start, end)]
    if times[1] is not None and times[1] <= (times[0] or 0.0):
        raise ValueError(f"it ends at {times[1]:g} s, before its start at {times[0] or 0.0:g} s")
    return times[0], times[1]


def _frame_times(record: Mapping[str, Any]) -> tuple[Any, Any]:
    frames = [column(record, kind) for kind in ("start_frame", "end_frame")]
    if frames == [None, None]:
        return None, None
    fps = column(record, "fps")
    if not fps or float(fps) <= 0:
        raise ValueError("its times are frames, and it has no video_fps to turn them into seconds")
    start, end = (None if frame is None else float(frame) / float(fps) for frame in frames)
    return start, end


def scores_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Every column that is named as a score or a similarity, and is filled."""
    return {name: float(value) for name, value in _scores(record)}


def _scores(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if _plain(name).endswith(_SCORE_ENDINGS) and value not in (None, ""):
            yield name, value


def label_of(record: Mapping[str, Any]) -> int | None:
    """A class number; None if the record has none, or names the class in words."""
    value = column(record, "label")
    if isinstance(value, list) or value in (None, ""):
        return None
    return int(value) if str(value).lstrip("-").isdigit() else None


def attributes_of(record: Mapping[str, Any], names: Sequence[str] = ()) -> dict[str, str]:
    """The column of attributes, and further columns by name, as words."""
    found = column(record, "attributes") or {}
    if not isinstance(found, Mapping):
        raise ValueError("its attributes are not an object of words")
    found = {**found, **{name: record[name] for name in names if record.get(name) not in (None, "")}}
    return {str(name): str(value) for name, value in found.items()}


def _plain(name: str) -> str:
    return str(name).strip().lower().replace(" ", "_")
