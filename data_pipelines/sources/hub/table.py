"""A table of a dataset: which columns are read, and its records with the place of their media."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ivjax.data_pipelines.sources.arrow_files import DAMAGED, ArrowFile, open_arrow, read_arrow
from ivjax.data_pipelines.sources.cells import ARROW_SUFFIXES, cell_path
from ivjax.data_pipelines.sources.hub.annotations import AnnotationColumns, annotation_columns
from ivjax.data_pipelines.sources.hub.media_column import (
    MediaColumn,
    features_of,
    holds_bytes,
    likely_columns,
    media_column,
    path_rank,
)
from ivjax.data_pipelines.sources.media import probed_media
from ivjax.data_pipelines.sources.row import BadRow
from ivjax.data_pipelines.sources.tables import Record, read_table
from ivjax.data_pipelines.store.records import MediaKind
from ivjax.errors import UserError

_LOOKED_AT = 20  # rows of a table of text, which tell its columns


class ColumnNames(NamedTuple):
    """Names of columns that a user gives; None: found by type and name."""

    video: str | None = None
    captions: str | None = None
    label: str | None = None
    conversation: str | None = None


class HubRecord(NamedTuple):
    """A row of a table.

    Attributes:
        number: its place in the table, from 0.
        record: the columns that hold no media.
        path: what the row calls its file; "" if it has no name.
        cell: the path of the cell that holds the file; None where the file lies elsewhere.
    """

    number: int
    record: Record
    path: str
    cell: str | None = None


class HubTable:
    """An opened table.

    Attributes:
        path: its file.
        media: the column of the media.
        annotations: the columns of what is said of them.
    """

    def __init__(self, path: Path, names: ColumnNames):
        self.path = path
        if path.suffix.lower() in ARROW_SUFFIXES:
            self._file: ArrowFile | None = open_arrow(path)
            schema = self._file.schema
            columns = schema.names
            if len(set(columns)) < len(columns):
                raise UserError(f"{path} has several columns of one name: {', '.join(columns)}; rename them")
            features = features_of(schema, str(path))
            self.media = media_column(schema, features, str(path), names.video)
            self._read = [name for name in columns if not holds_bytes(schema.field(name).type)]
        else:
            self._file, features = None, {}
            columns = _columns_of_text(path)
            self.media = _path_column(path, columns, names.video)
        self.annotations: AnnotationColumns = annotation_columns(
            columns, features, str(path), names.captions, names.label, names.conversation
        )
        self._probed: MediaKind | None = None

    def kind_of(self, cell: str) -> MediaKind:
        """Returns what a cell holds; ValueError if it is neither a video nor an image."""
        # All cells of a column are of one kind, and each probe reads a whole one.
        self._probed = self._probed or probed_media(cell)
        return self._probed

    def records(self) -> Iterator[tuple[str, HubRecord] | BadRow]:
        """Yields the rows in order."""
        if self._file is None:
            found = read_table(self.path)
        else:
            child = [f"{self.media.name}.path"] if self.media.cells == "struct" else []
            found = read_arrow(self.path, [*self._read, *child])
        stored = self._stored()
        for number, item in enumerate(found):
            is_stored = next(stored)
            if isinstance(item, BadRow):
                yield item
                continue
            where, record = item
            path = record.get(self.media.name)
            cell = cell_path(self.path, self.media.name, number) if is_stored else None
            yield where, HubRecord(number, record, path if isinstance(path, str) else "", cell)

    def _stored(self) -> Iterator[bool]:
        """Yields for each row whether the table itself holds its media, without end."""
        if self._file is not None and self.media.cells != "path":
            try:
                yield from self._file.filled(self.media.name)
            except DAMAGED:  # the cell says so when it is read
                yield from itertools.repeat(True)
        yield from itertools.repeat(False)


def holds_media(path: Path) -> bool:
    """Whether a table says where the media of its rows are, or holds them."""
    if path.suffix.lower() in ARROW_SUFFIXES:
        schema = open_arrow(path).schema
        return bool(likely_columns(schema, features_of(schema, str(path))))
    return any(path_rank(name) is not None for name in _columns_of_text(path))


def holds_cells(path: Path) -> bool:
    """Whether cells of a Parquet or Arrow file are media; bytes beside a column of paths may be anything."""
    schema = open_arrow(path).schema
    found = likely_columns(schema, features_of(schema, str(path)))
    stored = [column for column in found if column.cells != "path" or column.media is not None]
    sure = [column for column in stored if column.cells == "struct" or column.media is not None]
    return bool(sure or (stored and not any(path_rank(name) is not None for name in schema.names)))


def _columns_of_text(path: Path) -> Sequence[str]:
    """Returns the names of the columns of the first rows of a table of text."""
    found = itertools.islice(read_table(path), _LOOKED_AT)
    return list(dict.fromkeys(name for item in found if not isinstance(item, BadRow) for name in item[1]))


def _path_column(path: Path, columns: Sequence[str], wanted: str | None) -> MediaColumn:
    named = [name for name in columns if path_rank(name) is not None]
    chosen = wanted or min(named, key=lambda name: path_rank(name) or 0, default=None)
    if chosen not in columns:
        lacks = f"column {wanted}" if wanted else "column of paths, such as file_name"
        raise UserError(f"{path} has no {lacks}; it has {', '.join(columns) or 'no rows'}")
    return MediaColumn(str(chosen), "path")
