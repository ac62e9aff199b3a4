"""Full checks of a record: types and values of its header, and its media bytes."""

from typing import Any

from ivjax.data_pipelines.store.records import Clip, ClipError, check_times, clip_of, split

_NUMBER = (int, float)
_HEADER: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "media": (str,),
    "captions": (list,),
    "conversation": (list,),
    "label": (int, type(None)),
    "video": (str,),
    "start": _NUMBER,
    "end": _NUMBER,
    "frames": (int,),
    "fps": _NUMBER,
    "width": (int,),
    "height": (int,),
    "audio": (bool,),
    "scores": (dict,),
    "attributes": (dict,),
    "bytes": (int,),
    "crc32": (int,),
}


def checked_clip(record: bytes) -> Clip:
    """Returns the clip of a record; raises ClipError if its header is wrong or its bytes are damaged."""
    header, payload = split(record)
    _check_header(header)
    return clip_of(header, payload)


def intact_clip(record: bytes) -> Clip:
    """Returns the clip of a record; raises ClipError also for wrong times and for no media."""
    clip = checked_clip(record)
    check_times(clip)
    if not clip.payload:
        raise ClipError("empty", "there are no media bytes")
    return clip


def intact_header(record: bytes) -> dict[str, Any]:
    """Returns the header of a record; raises ClipError if a value is wrong."""
    header, _ = split(record)
    _check_header(header)
    return header


def _check_header(header: dict[str, Any]) -> None:
    for name, kinds in _HEADER.items():
        value = header[name]
        # Python counts a bool as an int, and JSON has both.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ClipError("bad header", f"{name} is {value!r}, of the wrong type")
    if not header["id"]:
        raise ClipError("bad header", "the id is empty")
    if header["media"] not in ("video", "image"):
        raise ClipError("bad header", f"media is {header['media']!r}, neither video nor image")
    if not all(isinstance(caption, str) for caption in header["captions"]):
        raise ClipError("bad header", "a caption is not text")
    if not _are_texts(header.get("texts", {})):
        raise ClipError("bad header", "the further texts are not lists of texts by kind")
    if not all(_is_turn(turn) for turn in header["conversation"]):
        raise ClipError("bad header", "a turn of the conversation is not a role and a text")
    if not all(isinstance(score, _NUMBER) for score in header["scores"].values()):
        raise ClipError("bad header", "a score is not a number")
    if min(header[name] for name in ("frames", "fps", "width", "height")) < 0:
        raise ClipError("bad header", "frames, fps, width or height is below 0")


def _are_texts(texts: Any) -> bool:
    if not isinstance(texts, dict) or not all(isinstance(found, list) for found in texts.values()):
        return False
    return all(isinstance(text, str) for found in texts.values() for text in found)


def _is_turn(turn: Any) -> bool:
    if not isinstance(turn, list) or len(turn) != 2:
        return False
    return turn[0] in ("system", "user", "assistant") and isinstance(turn[1], str)
