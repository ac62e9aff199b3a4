"""The record format: a clip's media bytes with its captions, times and labels.

A record is `IVJX`, the length of the header, the header as JSON, and the media bytes as they are.
"""

import dataclasses
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = 1
MediaKind = Literal["video", "image"]  # what a record stores

_MAGIC = b"IVJX"
# A fixed byte order, so that shards can move between machines.
_LENGTHS = struct.Struct("<4sI")


class ClipError(Exception):
    """A clip that cannot be used. `cause` is one of a few words that are counted, `detail` says more."""

    def __init__(self, cause: str, detail: str):
        super().__init__(cause, detail)
        self.cause = cause
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.cause}: {self.detail}"


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation about a clip."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True)
class Clip:
    """A stored clip or image.

    Attributes:
        id: unique in its corpus.
        payload: an mp4 or an image file.
        media: kind of the payload.
        captions: texts that describe the clip.
        texts: kind -> further texts: of `video` alone, of `audio` alone, `speech` that is heard.
        conversation: turns about it.
        label: number of its class.
        video: name of the source video.
        start: second of the source video at which the clip begins.
        end: second of the source video at which it ends.
        frames: number of frames of the payload.
        fps: frame rate of the payload; 0 for images.
        width: pixels of a row.
        height: pixels of a column.
        audio: whether the payload has a sound track.
        scores: numbers that filters use.
        attributes: words for probes and filters, such as the colour of what moves.
    """

    id: str
    payload: bytes = field(repr=False)
    media: MediaKind = "video"
    captions: tuple[str, ...] = ()
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    conversation: tuple[Turn, ...] = ()
    label: int | None = None
    video: str = ""
    start: float = 0.0
    end: float = 0.0
    frames: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    audio: bool = False
    scores: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


# Only where there are some: records without them stay what they were, byte for byte, and old ones are read.
_OPTIONAL = {"texts"}
_FIELDS = {f.name for f in dataclasses.fields(Clip)} - {"payload"} - _OPTIONAL


def pack(clip: Clip) -> bytes:
    """Returns the bytes of the record of a clip."""
    header: dict[str, Any] = {name: getattr(clip, name) for name in sorted(_FIELDS)}
    header["conversation"] = [[turn.role, turn.text] for turn in clip.conversation]
    header |= {name: getattr(clip, name) for name in _OPTIONAL if getattr(clip, name)}
    header |= {"schema": SCHEMA, "bytes": len(clip.payload), "crc32": zlib.crc32(clip.payload)}
    # Sorted names above and no blanks: equal clips give equal bytes, and shards equal hashes.
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return _LENGTHS.pack(_MAGIC, len(encoded)) + encoded + clip.payload


def unpack(record: bytes) -> Clip:
    """Returns the clip of a record; raises ClipError if the record is damaged."""
    return clip_of(*split(record))


def clip_of(header: Mapping[str, Any], payload: bytes) -> Clip:
    """Returns the clip of a header and its media bytes; raises ClipError if the bytes are damaged."""
    if len(payload) != header["bytes"]:
        raise ClipError("truncated", f"{len(payload)} of {header['bytes']} media bytes are there")
    # crc32 and not SHA: every read pays for it, and it finds accidents, which is all that is asked.
    if zlib.crc32(payload) != header["crc32"]:
        raise ClipError("altered", "the media bytes differ from their checksum")
    values = {name: header[name] for name in _FIELDS}
    values["captions"] = tuple(values["captions"])
    values["texts"] = {kind: tuple(texts) for kind, texts in header.get("texts", {}).items()}
    values["conversation"] = tuple(Turn(role, text) for role, text in values["conversation"])
    return Clip(payload=payload, **values)


def split(record: bytes) -> tuple[dict[str, Any], bytes]:
    """Returns header and media bytes of a record, without checking the bytes; raises ClipError."""
    if not record:
        raise ClipError("empty", "the record has no bytes")
    if len(record) < _LENGTHS.size or not record.startswith(_MAGIC):
        raise ClipError("not a record", f"it starts with {record[:4]!r}, not {_MAGIC!r}")
    end = _LENGTHS.size + _LENGTHS.unpack_from(record)[1]
    if end > len(record):
        raise ClipError("truncated", "the record ends inside its header")
    try:
        header = json.loads(record[_LENGTHS.size : end].decode())
    except UnicodeDecodeError as error:
        raise ClipError("not utf-8", f"the text of the record is not UTF-8: {error.reason}") from None
    # Among them a number of thousands of digits, and nesting without end.
    except (ValueError, RecursionError) as error:
        raise ClipError("bad header", f"the header is not JSON: {error}") from None
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        found = header.get("schema") if isinstance(header, dict) else None
        raise ClipError("other schema", f"the record has schema {found}, this version reads {SCHEMA}")
    missing = sorted((_FIELDS | {"bytes", "crc32"}) - set(header))
    if missing:
        raise ClipError("bad header", f"the header has no {', '.join(missing)}")
    return header, record[end:]


def check_times(clip: Clip) -> None:
    """Raises ClipError unless 0 <= start <= end < infinity."""
    # Written so that NaN fails too.
    if not (0 <= clip.start <= clip.end) or clip.end - clip.start == float("inf"):
        raise ClipError("wrong times", f"clip {clip.id} runs from {clip.start} s to {clip.end} s")
