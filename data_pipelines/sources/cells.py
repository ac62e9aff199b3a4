"""Media inside tables: the cell of a Parquet or Arrow file is a path, FILE::COLUMN[ROW]."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ivjax.data_pipelines.sources.arrow_files import ArrowFile

T = TypeVar("T")

ARROW_SUFFIXES = (".parquet", ".arrow")
_CELL = re.compile(r"(.+\.(?:parquet|arrow))::(.+)\[(\d{1,18})\]", re.DOTALL | re.IGNORECASE)
_OPEN = 2  # files that a thread keeps open; each holds a page and a video in memory
_opened = threading.local()


def cell_path(file: Path, column: str, row: int) -> str:
    """Returns the path of a cell; rows count from 0."""
    return f"{file}::{column}[{row}]"


def split_cell(path: str) -> tuple[Path, str, int] | None:
    """Returns the file, the column and the row of a cell; None for any other path."""
    found = _CELL.fullmatch(path)
    return None if found is None else (Path(found[1]), found[2], int(found[3]))


def read_cell(path: str) -> bytes:
    """Returns the bytes of a cell; OSError if it cannot be read."""
    found = _ask(path, lambda file, column, row: file.read(column, row))
    if found is None:
        raise FileNotFoundError(f"{path} is empty")
    return found


def cell_size(path: str) -> int:
    """Returns the bytes of a cell, of Parquet those of its row group; OSError if it cannot be read."""
    return _ask(path, lambda file, column, row: file.size(column, row))


def _ask(path: str, question: "Callable[[ArrowFile, str, int], T]") -> T:
    from ivjax.data_pipelines.sources.arrow_files import DAMAGED, reason_of

    parts = split_cell(path)
    assert parts is not None
    file, column, row = parts
    try:
        return question(_file(file), column, row)
    except FileNotFoundError:
        raise
    except (*DAMAGED, LookupError, StopIteration) as error:
        raise OSError(f"{path} cannot be read: {reason_of(error)}") from None


def _file(path: Path) -> "ArrowFile":
    """Returns an opened file. Each thread has its own, since a file remembers the cell that it is at."""
    from ivjax.data_pipelines.sources.arrow_files import open_arrow

    files: dict[tuple[str, int], ArrowFile] = _opened.__dict__.setdefault("files", {})
    # With its time, so that a file which was written anew is opened anew.
    key = str(path), path.stat().st_mtime_ns
    found = files.pop(key, None)
    files[key] = found = open_arrow(path) if found is None else found
    while len(files) > _OPEN:
        del files[next(iter(files))]
    return found
