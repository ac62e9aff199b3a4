"""InternVid's rows: an id, times, a caption and scores; and InternVideo2's audio-visual-speech rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.sources.columns import (
    ALIASES,
    attributes_of,
    captions_of,
    column,
    has_column,
    label_of,
    scores_of,
    times_of,
)
from ivjax.data_pipelines.sources.media import VideoFolder
from ivjax.data_pipelines.sources.row import BadRow, Row
from ivjax.data_pipelines.sources.tables import Record, read_table
from ivjax.data_pipelines.sources.times import clip_id
from ivjax.errors import UserError

_WORDS = ("Language", "Category")


@dataclass(frozen=True)
class InternVid:
    """Rows of a JSONL, CSV, TSV, Parquet or JSON table; the video of an id lies in `videos`.

    caption_from: the column to take captions from, where a row has several kinds.
    """

    table: Path
    videos: Path
    caption_from: str | None = None

    def __iter__(self) -> Iterator[Row | BadRow]:
        folder, checked = VideoFolder(self.videos), False
        for found in read_table(self.table):
            if isinstance(found, BadRow):
                yield found
                continue
            where, record = found
            if not checked:
                self._check(record)
                checked = True
            try:
                yield self._row(record, folder)
            except (ValueError, TypeError) as error:
                yield BadRow(where, str(error))

    def _row(self, record: Record, folder: VideoFolder) -> Row:
        video = str(column(record, "id") or "").strip()
        if not video:
            raise ValueError("it has no video id")
        start, end = times_of(record)
        captions = captions_of(self._caption(record))
        path = folder.find(str(column(record, "path") or video)) or folder.find(video)
        if path is None:
            raise ValueError(f"no video file of {video} is in {self.videos}")
        return Row(
            id=clip_id(video, start, end),
            path=path,
            start=start,
            end=end,
            captions=captions,
            label=label_of(record),
            video=video,
            scores=scores_of(record),
            attributes=attributes_of(record, _WORDS),
        )

    def _caption(self, record: Record) -> Any:
        if self.caption_from is None:
            return column(record, "captions")
        return record.get(self.caption_from)

    def _check(self, record: Record) -> None:
        """The first row must have the columns that no row can do without."""
        wanted = {"id": has_column(record, "id"), "captions": has_column(record, "captions")}
        if self.caption_from is not None:
            wanted["captions"] = self.caption_from in record
        for kind, there in wanted.items():
            if not there:
                names = (
                    self.caption_from
                    if kind == "captions" and self.caption_from
                    else ", ".join(ALIASES[kind])
                )
                raise UserError(
                    f"{self.table} has no column for {kind} (any of: {names}); it has {', '.join(record)}"
                )
