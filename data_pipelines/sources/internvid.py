"""Tables of video ids and times, with captions or classes: InternVid, InternVideo2's, Kinetics' own CSV."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.sources.columns import (
    ALIASES,
    attributes_of,
    captions_of,
    class_of,
    column,
    scores_of,
    texts_of,
    times_of,
    with_columns,
)
from ivjax.data_pipelines.sources.convert import convert
from ivjax.data_pipelines.sources.media import VideoFolder
from ivjax.data_pipelines.sources.row import BadRow, SourceRow
from ivjax.data_pipelines.sources.tables import Record, read_table
from ivjax.data_pipelines.sources.times import clip_id

_WORDS = ("language", "category", "split")


@dataclass(frozen=True)
class InternVid:
    """Rows of a JSONL, CSV, TSV, Parquet or JSON table.

    Attributes:
        table: the annotation file.
        videos: the folder in which the video of an id is found.
        caption_from: the column of the captions, where a row has several kinds.
        captioned: whether rows must have captions; without, they have classes.
    """

    table: Path
    videos: Path
    caption_from: str | None = None
    captioned: bool = True

    def __iter__(self) -> Iterator[SourceRow | BadRow]:
        folder = VideoFolder(self.videos)
        captions: Sequence[str] = (self.caption_from,) if self.caption_from else ALIASES["captions"]
        described = {"captions": captions} if self.captioned else {"label": ALIASES["label"]}
        wanted = {"id": ALIASES["id"], **described}
        records = with_columns(self.table, read_table(self.table), wanted)
        return convert(records, lambda record: [self._row(record, folder)])

    def _row(self, record: Record, folder: VideoFolder) -> SourceRow:
        video = str(column(record, "id") or "").strip()
        if not video:
            raise ValueError("it has no video id")
        start, end = times_of(record)
        if (start is None) != (end is None):
            raise ValueError("it has only one of start and end")
        captions = captions_of(self._caption(record)) if self.captioned else ()
        label, class_name = class_of(record)
        row_id, path = clip_id(video, start, end), folder.find(_cut_name(video, start, end))
        if path is not None:
            # The file is the clip already: its times are those of the video that it was cut from.
            start = end = None
        else:
            path = folder.find(str(column(record, "path") or video)) or folder.find(video)
        if path is None:
            raise ValueError(f"no video file of {video} is in {self.videos}")
        return SourceRow(
            id=row_id,
            path=path,
            start=start,
            end=end,
            captions=captions,
            texts=texts_of(record),
            label=label,
            class_name=class_name,
            video=video,
            scores=scores_of(record),
            attributes=attributes_of(record, _WORDS),
        )

    def _caption(self, record: Record) -> Any:
        return column(record, "captions") if self.caption_from is None else record.get(self.caption_from)


def _cut_name(video: str, start: float | None, end: float | None) -> str:
    """The name under which Kinetics' downloaders store a clip: id_000010_000020."""
    if start is None or end is None or not (start.is_integer() and end.is_integer()):
        return ""
    return f"{video}_{int(start):06d}_{int(end):06d}"
