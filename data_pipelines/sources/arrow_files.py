"""Parquet and Arrow files: their rows in batches, and single cells of columns that hold media.

A cell is read without those after it, so that memory is bounded by the pages of a file and not by its size.
"""

import bisect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow
import pyarrow.compute
import pyarrow.ipc
import pyarrow.parquet

from ivjax.data_pipelines.sources.row import BadRow
from ivjax.errors import UserError

# What pyarrow raises for a file that is not what it should be; ValueError for names that are not UTF-8.
DAMAGED = (pyarrow.ArrowException, OSError, ValueError)
_ROWS = 1024  # of a batch of annotations
_BUFFER = 2**20  # bytes; with a buffer, the columns of Parquet are read page by page
_POINTER = b"version https://git-lfs."  # the beginning of what Git LFS leaves in the place of a large file


class ArrowFile(Protocol):
    """An opened file of columns.

    Attributes:
        schema: names and types of the columns.
    """

    schema: pyarrow.Schema

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pyarrow.RecordBatch]:
        """Yields all rows, with some columns or all; NAME.child gives a child of structs, under NAME."""

    def filled(self, column: str) -> Iterator[bool]:
        """Yields for each row whether its cell holds bytes."""

    def read(self, column: str, row: int) -> bytes | None:
        """Returns the bytes of a cell: those in it, or in the child `bytes` of its struct; None without."""

    def size(self, column: str, row: int) -> int:
        """Returns how many bytes a cell has, or its row group where the file does not say it of a cell."""


def open_arrow(path: Path) -> ArrowFile:
    """Opens a file by its suffix, .parquet or .arrow; raises UserError for a damaged one."""
    kind = "Parquet" if path.suffix.lower() == ".parquet" else "Arrow"
    try:
        file = ParquetColumns(path) if kind == "Parquet" else ArrowColumns(path)
        _check_names(list(file.schema))
        return file
    except DAMAGED as error:
        if _is_pointer(path):
            raise UserError(
                f"{path} is a pointer of Git LFS, not the data; git lfs pull fetches it"
            ) from None
        raise UserError(f"{path} is a damaged {kind} file ({reason_of(error)}); fetch it again") from None


def _check_names(fields: Iterable[pyarrow.Field]) -> None:
    """Raises ValueError for a name that is not UTF-8, also inside structs and lists."""
    for field in fields:
        assert field.name is not None  # to ask for it decodes it
        _check_names(field.type.field(number) for number in range(field.type.num_fields))


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def reason_of(error: BaseException) -> str:
    """Returns the first line of an error; pyarrow's go on with the place in its own code."""
    return str(error).partition("\n")[0]


def read_arrow(
    path: Path, columns: Sequence[str] | None = None
) -> Iterator[tuple[str, Mapping[str, Any]] | BadRow]:
    """Yields (where, row) pairs of a file, and a BadRow for each row that cannot be read."""
    # In batches: the tables of InternVid's 200 million rows do not fit into memory.
    batches = open_arrow(path).batches(columns)
    number = 0
    while True:
        try:
            batch = next(batches, None)
        except DAMAGED as error:
            where = f"{path.name} row {number + 1}"
            yield BadRow(where, f"this row and those after it are damaged: {reason_of(error)}")
            return
        if batch is None:
            return
        for row in _batch_rows(batch):
            number += 1
            where = f"{path.name} row {number}"
            yield BadRow(where, "it is not UTF-8") if row is None else (where, row)


def _batch_rows(batch: pyarrow.RecordBatch) -> list[dict[str, Any] | None]:
    """Returns the rows of a batch; None for a row whose text is not UTF-8."""
    if not batch.num_columns:
        return [{}] * batch.num_rows
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        if len(batch) == 1:
            return [None]
        return [row for index in range(len(batch)) for row in _batch_rows(batch.slice(index, 1))]


class ParquetColumns:
    """A Parquet file. Cells that are asked for in their order are read once, page by page."""

    def __init__(self, path: Path):
        self._file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
        self.schema = self._file.schema_arrow
        self._meta = self._file.metadata
        groups = range(self._meta.num_row_groups)
        self._begins = [0, *itertools.accumulate(self._meta.row_group(group).num_rows for group in groups)]
        self._cells: Iterator[pyarrow.RecordBatch] = iter(())
        self._of: tuple[str, int] | None = None  # column and row group of the cells
        self._row = -1  # the last row that was read
        self._last: bytes | None = None  # and its bytes: a video is opened more than once

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pyarrow.RecordBatch]:
        """Yields all rows, with some columns or all."""
        for batch in self._file.iter_batches(_ROWS, columns=columns and list(columns)):
            yield _with_children(batch, columns or ())

    def filled(self, column: str) -> Iterator[bool]:
        """Yields for each row whether its cell holds bytes, which are read only if some do not."""
        for group, (begin, end) in enumerate(itertools.pairwise(self._begins)):
            statistics = self._chunk(column, group).statistics
            empty = 0 if statistics is None or not statistics.has_null_count else statistics.null_count
            if empty in (0, end - begin):
                yield from [not empty] * (end - begin)
            else:
                yield from (_first_cell(batch) is not None for batch in self._cells_of(column, group))

    def read(self, column: str, row: int) -> bytes | None:
        """Returns the bytes of a cell; None without."""
        of = column, self._group(row)
        if self._of != of or row < self._row:
            self._cells, self._row = self._cells_of(*of), self._begins[of[1]] - 1
        # Until the cell is read: whatever is raised here, the next call starts anew.
        self._of = None
        while self._row < row:
            batch = next(self._cells)
            self._row += 1
            self._last = _first_cell(batch) if self._row == row else None
        self._of = of
        return self._last

    def size(self, column: str, row: int) -> int:
        """Returns the bytes of the column in the row group of a cell."""
        # To read all cells for their lengths would take as long as a build.
        return self._chunk(column, self._group(row)).total_uncompressed_size

    def _group(self, row: int) -> int:
        if row >= self._begins[-1]:
            raise IndexError(f"there are {self._begins[-1]} rows")
        return bisect.bisect_right(self._begins, row) - 1

    def _cells_of(self, column: str, group: int) -> Iterator[pyarrow.RecordBatch]:
        name = _bytes_of(self.schema, column)
        return self._file.iter_batches(1, row_groups=[group], columns=[name], use_threads=False)

    def _chunk(self, column: str, group: int) -> Any:
        name, found = _bytes_of(self.schema, column), self._meta.row_group(group)
        chunks = (found.column(number) for number in range(found.num_columns))
        return next(chunk for chunk in chunks if chunk.path_in_schema == name)


class ArrowColumns:
    """An Arrow file or stream. It is mapped into memory, so that what is not used is not read."""

    def __init__(self, path: Path):
        mapped = pyarrow.memory_map(str(path))
        if mapped.read(6) == b"ARROW1":
            file = pyarrow.ipc.open_file(mapped)
            self._batches = [file.get_batch(number) for number in range(file.num_record_batches)]
            self.schema = file.schema
        else:
            mapped.seek(0)
            stream = pyarrow.ipc.open_stream(mapped)
            self.schema, self._batches = stream.schema, list(stream)
        self._begins = [0, *itertools.accumulate(batch.num_rows for batch in self._batches)]
        self._checked: dict[tuple[str, int], pyarrow.Array] = {}

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pyarrow.RecordBatch]:
        """Yields all rows, with some columns or all."""
        wanted = [name for name in self.schema.names if columns is None or _is_named(name, columns)]
        for batch in self._batches:
            whole = batch.select(wanted)
            # What the file says of places in it is believed by all that follows; a wrong one is a crash.
            whole.validate(full=True)
            whole = _with_children(whole, columns or ())
            yield from (whole.slice(begin, _ROWS) for begin in range(0, whole.num_rows, _ROWS))

    def filled(self, column: str) -> Iterator[bool]:
        """Yields for each row whether its cell holds bytes."""
        for number in range(len(self._batches)):
            yield from self._cells(column, number).is_valid().to_pylist()

    def read(self, column: str, row: int) -> bytes | None:
        """Returns the bytes of a cell; None without."""
        return self._cell(column, row)[0].as_py()

    def size(self, column: str, row: int) -> int:
        """Returns how many bytes a cell has."""
        return pyarrow.compute.binary_length(self._cell(column, row))[0].as_py() or 0

    def _cell(self, column: str, row: int) -> pyarrow.Array:
        number = bisect.bisect_right(self._begins, row) - 1
        if number == len(self._batches):
            raise IndexError(f"there are {self._begins[-1]} rows")
        # A slice, because a scalar of bytes is a copy of them.
        return self._cells(column, number).slice(row - self._begins[number], 1)

    def _cells(self, column: str, number: int) -> pyarrow.Array:
        """Returns the bytes of all cells of a batch, still in the file."""
        if (column, number) not in self._checked:
            found = self._batches[number].column(column)
            found.validate(full=True)
            is_struct = pyarrow.types.is_struct(found.type)
            self._checked[column, number] = (
                pyarrow.compute.struct_field(found, "bytes") if is_struct else found
            )
        return self._checked[column, number]


def _is_named(name: str, columns: Sequence[str]) -> bool:
    return name in columns or any(column.startswith(f"{name}.") for column in columns)


def _with_children(batch: pyarrow.RecordBatch, columns: Sequence[str]) -> pyarrow.RecordBatch:
    """Returns the batch with the wanted child of structs in their place."""
    for column in columns:
        name, _, child = column.rpartition(".")
        if column not in batch.schema.names and name in batch.schema.names:
            place = batch.schema.names.index(name)
            batch = batch.set_column(place, name, pyarrow.compute.struct_field(batch.column(place), child))
    return batch


def _bytes_of(schema: pyarrow.Schema, column: str) -> str:
    """Returns the path of the bytes of a column; KeyError if there is no such column."""
    return f"{column}.bytes" if pyarrow.types.is_struct(schema.field(column).type) else column


def _first_cell(batch: pyarrow.RecordBatch) -> bytes | None:
    """Returns the bytes of the only cell of a batch; None without."""
    cell = batch.column(0)[0]
    return (cell["bytes"] if pyarrow.types.is_struct(cell.type) and cell.is_valid else cell).as_py()
