"""Tables as dicts, row by row: JSON lines, CSV, TSV, Parquet; and JSON, which is read at once."""

import csv
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ivjax.data_pipelines.sources.columns import has_column
from ivjax.data_pipelines.sources.row import BadRow
from ivjax.errors import UserError

Record: TypeAlias = Mapping[str, Any]
Found: TypeAlias = tuple[str, Record] | BadRow

TABLE_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")


def read_table(path: Path) -> Iterator[Found]:
    """Yields (where, row) pairs of a table, and a BadRow for each row that cannot be read."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; name an annotation file")
    readers = {".json": _json, ".jsonl": _lines, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise UserError(f"{path} is none of {', '.join(readers)}; rename it, or convert it")
    yield from readers[suffix](path)


def _json(path: Path) -> Iterator[Found]:
    if _holds_lines(path):
        yield from _lines(path)
        return
    for number, row in enumerate(_rows_of(load_json(path)), 1):
        where = f"{path.name} row {number}"
        good = isinstance(row, dict)
        yield (where, row) if good else BadRow(where, f"it is {type(row).__name__}, not an object")


def _holds_lines(path: Path) -> bool:
    """Whether the file holds JSON lines, as many files called .json do."""
    with path.open("rb") as file:
        first = list(itertools.islice((line for line in file if line.strip()), 2))
    return len(first) == 2 and all(line.lstrip(b"\xef\xbb\xbf \t").startswith(b"{") for line in first)


def load_json(path: Path) -> Any:
    """Returns the content of a JSON file. Text that is not UTF-8 becomes surrogates."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged JSON ({error}); mend it, or fetch it again") from None


def _rows_of(content: Any) -> list[Any]:
    """Returns a list, the first list of objects in an object, or an object as the only row."""
    if isinstance(content, list):
        return content
    if isinstance(content, dict) and not has_column(content, "path") and not has_column(content, "id"):
        lists = (value for value in content.values() if isinstance(value, list))
        return next((rows for rows in lists if rows and isinstance(rows[0], dict)), [content])
    return [content]


def _lines(path: Path) -> Iterator[Found]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name} line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except UnicodeDecodeError:
                yield BadRow(where, "it is not UTF-8")
            except (ValueError, RecursionError) as error:
                yield BadRow(where, f"it is not JSON: {error}")
            else:
                yield (where, row) if isinstance(row, dict) else BadRow(where, "it is not a JSON object")


def _csv(path: Path) -> Iterator[Found]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    # newline="": csv wants line ends as they are, since quoted captions may hold some.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        if not reader.fieldnames:
            raise UserError(f"{path} is empty; its first line must name the columns")
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(f"{path.name} line {reader.reader.line_num}", f"it is not CSV: {error}")
            else:
                yield _csv_row(f"{path.name} line {reader.line_num}", row, len(reader.fieldnames))


def _csv_row(where: str, row: dict[str, Any], columns: int) -> Found:
    if None in row or None in row.values():  # how DictReader marks what is too much and too little
        return BadRow(where, f"it has not {columns} columns")
    if any("\udc80" <= char <= "\udcff" for value in row.values() for char in value):
        return BadRow(where, "it is not UTF-8")
    return where, row


def _parquet(path: Path) -> Iterator[Found]:
    from ivjax.data_pipelines.sources.arrow_files import read_arrow  # here, because pyarrow takes a while

    yield from read_arrow(path)
