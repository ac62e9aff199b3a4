"""The clips of a test set, one after the other: of a corpus folder, or of an annotation file."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ivjax.data_pipelines.sources.classes import given_classes, number_classes
from ivjax.data_pipelines.sources.open_source import open_source_of
from ivjax.data_pipelines.sources.row import NOT_MEDIA, BadRow, SourceRow
from ivjax.data_pipelines.store.clips import class_names, is_corpus, open_clips
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError

ANSWERS = "answers"  # the attribute with the numbers of an item's right options or classes, where several are


@dataclass(frozen=True)
class EvalData:
    """A test set.

    Attributes:
        path: a corpus folder, or an annotation file.
        kind: the format of the annotations (`auto`: recognised).
        videos: the folder of the annotations' videos.
        options: options of the annotations' reader.
        limit: only the first so many clips or rows (None: all).
    """

    path: str
    kind: str = "auto"
    videos: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit must be 1 or more, got {self.limit}")


@dataclass(frozen=True)
class Item:
    """One clip to be scored.

    Attributes:
        id: names it in results; need not be unique.
        media: a file, a member of a tar, the bytes of one, or a folder of images.
        start: where the clip begins, in seconds (None: where the medium does).
        end: where the clip ends, in seconds (None: where the medium does).
        captions: its captions, or the options of a question.
        texts: kind -> further captions, of `video`, `audio` or `speech` alone.
        label: number of its class, or of the right option.
        attributes: whatever else is known of it, by name.
        frame_rate: how many images a second are shown of a folder of images (None: the medium is a file).
    """

    id: str
    media: str | bytes = field(repr=False)
    start: float | None = None
    end: float | None = None
    captions: tuple[str, ...] = ()
    label: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    frame_rate: float | None = None
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class UnscoredClip:
    """A clip that could not be scored, and why."""

    clip: str
    cause: str
    detail: str

    def __str__(self) -> str:
        return f"{self.clip}: {self.cause}: {self.detail}"


class AnnotationItems:
    """The items of an annotation file, all of them in memory."""

    def __init__(self, data: EvalData):
        source = open_source_of(data.path, data.kind, data.videos, data.options)
        # Other files of a folder are no clips that could have been scored.
        media = (row for row in source if not (isinstance(row, BadRow) and row.cause == NOT_MEDIA))
        rows = list(itertools.islice(media, data.limit))
        self._classes: tuple[str, ...] | UserError
        try:
            rows, self._classes = number_classes(rows, data.path, given_classes(source))
        except UserError as error:  # of no matter to a suite that reads no labels
            self._classes = error
        self._items = [_of_row(row) for row in rows]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the labels' numbers; none if the labels are numbers."""
        if isinstance(self._classes, UserError):
            raise self._classes
        return self._classes

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item | UnscoredClip]:
        return iter(self._items)


class CorpusItems:
    """The items of a corpus folder, read one at a time.

    Attributes:
        classes: the class names in the order of the labels' numbers; none if the labels are numbers.
    """

    def __init__(self, data: EvalData):
        if data.kind != "auto" or data.videos is not None or data.options:
            raise UserError(
                f"{data.path} is a corpus, which holds its videos; leave out the kind, folder and options"
            )
        self._folder = data.path
        self.classes = class_names(data.path)
        clips = open_clips(data.path)
        self._length = min(len(clips), len(clips) if data.limit is None else data.limit)
        clips.close()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item | UnscoredClip]:
        clips = open_clips(self._folder)  # anew, so that several may iterate
        try:
            for number in range(self._length):
                yield _of_clip(clips, number)
        finally:
            clips.close()


def open_items(data: EvalData) -> AnnotationItems | CorpusItems:
    """Returns the clips of a test set, of which there must be some."""
    items = CorpusItems(data) if is_corpus(data.path) else AnnotationItems(data)
    if not len(items):
        raise UserError(f"{data.path} holds no clips to score; name another test set")
    return items


def check_data(path: str) -> None:
    """Raises UserError if a test set is not there, or is empty."""
    open_items(EvalData(path, limit=1))


def _of_row(row: SourceRow | BadRow) -> Item | UnscoredClip:
    if isinstance(row, BadRow):
        return UnscoredClip(row.where, "bad row", row.reason)
    told = (row.captions, row.label, row.attributes, row.frame_rate, row.texts)
    return Item(row.id, row.path, row.start, row.end, *told)


def _of_clip(clips: Any, number: int) -> Item | UnscoredClip:
    try:
        clip = clips[number]
    except ClipError as error:
        shard, record = clips.place(number)
        return UnscoredClip(f"{shard} record {record}", error.cause, error.detail)
    told = {"captions": clip.captions, "texts": clip.texts, "attributes": clip.attributes}
    return Item(clip.id, clip.payload, label=clip.label, **told)
