"""Tables of captions of files named by path: ViCLIP's and InternVideo2's JSON, retrieval sets."""

import sqlite3
from collections.abc import Iterator
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
from ivjax.data_pipelines.sources.media import existing_media
from ivjax.data_pipelines.sources.row import BadRow, SourceRow
from ivjax.data_pipelines.sources.tables import Record, read_table
from ivjax.data_pipelines.sources.times import clip_id
from ivjax.data_pipelines.tokenizers.caption_text import count_words, join_paragraph
from ivjax.errors import UserError

SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
# DiDeMo's annotators saw the first 30 s of each video only.
_TRIMMED_SECONDS = 30.0


@dataclass(frozen=True)
class Captions:
    """Rows of {video or image or path: relative to `root`, caption: one or a list}.

    Covers MSR-VTT, MSVD, VATEX, LSMDC, DiDeMo, ActivityNet in the layout of the retrieval files, multiple
    choice and SQLite tables `annos`. The number of the right choice becomes the label; of several right
    ones (Charades) the attribute `answers` holds the numbers, and `crop_bbox` is an attribute too.

    Attributes:
        table: the annotation file.
        root: the folder that its paths are relative to.
        paragraph: joins the captions of a row into one (DiDeMo, ActivityNet).
        trimmed: keeps the first 30 s only (DiDeMo).
        min_words: rows with shorter captions are bad; the originals train on 2.
        captioned: whether a row needs a caption.
        fps: frames a second of folders of frames, which do not say it themselves.
        sound: whether files of sound without pictures are clips, for evals that hear alone.
    """

    table: Path
    root: Path
    paragraph: bool = False
    trimmed: bool = False
    min_words: int = 0
    captioned: bool = True
    fps: float | None = None
    sound: bool = False

    def __iter__(self) -> Iterator[SourceRow | BadRow]:
        records = (
            _sqlite(self.table) if self.table.suffix.lower() in SQLITE_SUFFIXES else read_table(self.table)
        )
        return convert(with_columns(self.table, records, {"path": ALIASES["path"]}), self._rows)

    def _rows(self, record: Record) -> Iterator[SourceRow]:
        """Yields one row, or one for each of several videos that share a caption."""
        paths = column(record, "path")
        captions = self._captions(record)
        start, end = times_of(record)
        if self.trimmed:
            if (start or 0.0) >= _TRIMMED_SECONDS:
                raise ValueError(f"it starts at {start:g} s, after the {_TRIMMED_SECONDS:g} s that are kept")
            end = min(end or _TRIMMED_SECONDS, _TRIMMED_SECONDS)
        for path in paths if isinstance(paths, list) else [paths]:
            yield self._row(record, path, captions, start, end)

    def _row(
        self, record: Record, path: Any, captions: tuple[str, ...], start: float | None, end: float | None
    ) -> SourceRow:
        file, media = existing_media(self.root, path, self.fps, self.sound)
        label, class_name = class_of(record)
        return SourceRow(
            id=clip_id(path, start, end),
            path=file,
            media=media,
            start=start,
            end=end,
            captions=captions,
            texts=texts_of(record),
            label=label,
            class_name=class_name,
            video=path,
            scores=scores_of(record),
            attributes={**attributes_of(record), **_numbers(record)},
            frame_rate=self.fps if Path(file).is_dir() else None,
        )

    def _captions(self, record: Record) -> tuple[str, ...]:
        value: Any = column(record, "captions") or record.get("option")
        if value is None and not self.captioned:
            return ()
        captions = captions_of(value)
        captions = (join_paragraph(captions),) if self.paragraph else captions
        short = next((text for text in captions if count_words(text) < self.min_words), None)
        if short is not None:
            raise ValueError(f"its caption {short!r} has fewer than {self.min_words} words")
        return captions


def _numbers(record: Record) -> dict[str, str]:
    """Returns attributes of several numbers: right answers, and the box (x0, y0, x1, y1) of the caption."""
    found = {}
    if isinstance(answer := record.get("answer"), list):
        found["answers"] = " ".join(str(number) for number, right in enumerate(answer) if right)
    if box := record.get("crop_bbox"):
        found["crop_bbox"] = " ".join(map(str, box))
    return found


def _sqlite(path: Path) -> Iterator[tuple[str, Record]]:
    # Read-only, so that a wrong path creates no empty database.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    # One caption that is not UTF-8 becomes a bad row, and not the end of the table.
    connection.text_factory = lambda text: text.decode(errors="surrogateescape")
    try:
        for row in connection.execute("SELECT * FROM annos ORDER BY id"):
            yield f"{path.name} id {row['id']}", dict(row)
    except sqlite3.Error as error:
        raise UserError(f"{path} is no SQLite file with a table annos(id, video, caption): {error}") from None
    finally:
        connection.close()
