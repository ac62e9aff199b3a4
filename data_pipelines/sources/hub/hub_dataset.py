"""Datasets of the Hugging Face Hub on this machine: saved ones, Parquet, and videos beside metadata."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ivjax.data_pipelines.sources.columns import (
    ClassLabel,
    attributes_of,
    column,
    scores_of,
    texts_of,
    times_of,
)
from ivjax.data_pipelines.sources.conversations import attributes_of as question_of
from ivjax.data_pipelines.sources.convert import convert
from ivjax.data_pipelines.sources.hub.data_files import data_files
from ivjax.data_pipelines.sources.hub.split_tables import DataFiles
from ivjax.data_pipelines.sources.media import existing_media, media_of
from ivjax.data_pipelines.sources.row import BadRow, RowError, SourceRow
from ivjax.data_pipelines.sources.times import clip_id
from ivjax.data_pipelines.store.records import MediaKind
from ivjax.errors import UserError

if TYPE_CHECKING:
    from ivjax.data_pipelines.sources.hub.table import HubRecord, HubTable


@dataclass(frozen=True)
class HubDataset:
    """A dataset that `datasets` saved, a folder of Parquet as the Hub has it, or videos beside metadata.

    Videos lie in the tables or are files that these name. A class has the number that the dataset gives it.

    Attributes:
        path: the folder, or one table.
        root: the folder that paths are relative to, before that of their table.
        config: the config, where there are several.
        split: the split, where there are several.
        video_from: the column of the videos.
        caption_from: the column of the captions, or several with commas between them.
        label_from: the column of the class.
        conversation_from: the column of the turns.
        whole: takes videos whole, where times say from when in a longer one they were cut.
        fps: frames a second of folders of frames, which do not say it themselves.
    """

    path: Path
    root: Path
    config: str | None = None
    split: str | None = None
    video_from: str | None = None
    caption_from: str | None = None
    label_from: str | None = None
    conversation_from: str | None = None
    whole: bool = False
    fps: float | None = None

    def __iter__(self) -> Iterator[SourceRow | BadRow]:
        return convert(self._records(), lambda found: [self._row(*found)])

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in the order of their numbers; none if the dataset names none."""
        return self._open(self._tables.files[0]).annotations.classes

    @functools.cached_property
    def _tables(self) -> DataFiles:
        return data_files(self.path, self.config, self.split)

    def _open(self, table: Path) -> "HubTable":
        from ivjax.data_pipelines.sources.hub.table import ColumnNames, HubTable  # pyarrow takes a while

        names = ColumnNames(self.video_from, self.caption_from, self.label_from, self.conversation_from)
        return HubTable(table, names)

    def _records(self) -> Iterator[tuple[str, tuple["HubTable", "HubRecord"]] | BadRow]:
        for path in self._tables.files:
            table = self._open(path)
            if table.annotations.classes != self.class_names:
                raise UserError(f"{path} names other classes than {self._tables.files[0]}; write both again")
            for item in table.records():
                if isinstance(item, BadRow):
                    yield item
                elif self._is_of_split(item[1]):
                    yield item[0], (table, item[1])

    def _is_of_split(self, found: "HubRecord") -> bool:
        return not self._tables.folder or PurePath(found.path).parts[:1] == (self._tables.folder,)

    def _row(self, table: "HubTable", found: "HubRecord") -> SourceRow:
        record, read = found.record, table.annotations
        file, media = self._medium(table, found)
        start, end = (None, None) if self.whole else times_of(record)
        name = found.path or str(column(record, "id") or f"{table.path.stem}/{found.number}")
        conversation = read.conversation_in(record)
        label, class_name = ClassLabel() if conversation else read.class_in(record)
        needs_caption = not (conversation or class_name or label is not None)
        return SourceRow(
            id=clip_id(name, start, end),
            path=file,
            media=media,
            start=start,
            end=end,
            captions=() if conversation else read.captions_in(record, needs_caption),
            texts=texts_of(record),
            conversation=conversation,
            label=label,
            class_name=class_name,
            video=name,
            scores=scores_of(record),
            attributes=attributes_of(record) | (question_of(record) if conversation else {}),
            frame_rate=self.fps if found.cell is None and Path(file).is_dir() else None,
        )

    def _medium(self, table: "HubTable", found: "HubRecord") -> tuple[str, MediaKind]:
        """Returns the path of a row's file, or of the cell that holds it, and what it is."""
        if found.cell is not None:
            return found.cell, table.media.media or media_of(found.path) or table.kind_of(found.cell)
        path = found.path
        if not path:
            raise RowError(f"its {table.media.name} is empty", "missing media")
        if "://" in path:
            raise RowError(f"{path} is an address, and nothing is downloaded here", "missing media")
        places = dict.fromkeys((self.root, table.path.parent))
        there = next((place for place in places if (place / path).exists()), None)
        if there is None:
            raise RowError(f"{path} is not in {', nor in '.join(map(str, places))}", "missing media")
        return existing_media(there, path, self.fps)
