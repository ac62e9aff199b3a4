"""Rows of a source: clips that could be made, and rows that are of no use."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ivjax.data_pipelines.store.records import MediaKind, Turn


@dataclass(frozen=True)
class SourceRow:
    """A clip that could be made.

    Attributes:
        id: unique in its source.
        path: the media file; `archive.tar::name` for a member of a tar; or a folder of image files, one a
            frame, if there is a `frame_rate`.
        media: what the clip will be.
        start: second of the file at which it begins; None is the beginning of the file.
        end: second of the file at which it ends; None is the end of the file.
        captions: texts that describe it.
        conversation: turns about it.
        label: number of its class.
        class_name: name of its class, which has no number yet (`classes.ClassNumbers`).
        video: name of the source video; clips of one video share it.
        scores: numbers that filters use.
        attributes: words that probes and filters use.
        frame_rate: how many images of a folder are shown a second; None for a file.
        texts: kind -> further texts, of `video`, `audio` or `speech` alone.
        more: further files that the conversation is about, of the same kind; `MEDIA_MARK` says where.
    """

    id: str
    path: str
    media: MediaKind = "video"
    start: float | None = None
    end: float | None = None
    captions: tuple[str, ...] = ()
    conversation: tuple[Turn, ...] = ()
    label: int | None = None
    class_name: str = ""
    video: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    frame_rate: float | None = None
    # Not in repr, from which the fingerprints of shards are made: rows with more files are in no shard.
    more: tuple[str, ...] = field(default=(), repr=False)
    # Nor this: rows without it keep the fingerprint that they had before there was any; see `texts_hashed`.
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def texts_hashed(self) -> str:
        """Returns the further texts as a hash takes them in, behind the row's repr."""
        return repr(sorted(self.texts.items())) if self.texts else ""


BAD = "bad row"  # cause of rows that are of no use for any other reason
NOT_MEDIA = "not a video or image"  # cause of the files of a folder that are left aside


@dataclass(frozen=True)
class BadRow:
    """A row that is of no use: its place in the file, and what is wrong with it.

    `cause` is the word under which reports count it.
    """

    where: str
    reason: str
    cause: str = BAD


class RowError(ValueError):
    """Why a row is of no use, and the word under which reports count it."""

    def __init__(self, reason: str, cause: str):
        super().__init__(reason)
        self.cause = cause


class Source(Protocol):
    """Rows in the order of the annotation file. Bad rows are yielded, never raised."""

    def __iter__(self) -> Iterator[SourceRow | BadRow]: ...
