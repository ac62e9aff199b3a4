"""Tables of rows as dicts, streamed: JSON, JSON lines, CSV, TSV, Parquet."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.sources.row import BadRow
from ivjax.errors import UserError

Record = Mapping[str, Any]

TABLE_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")


def read_table(path: Path) -> Iterator[tuple[str, Record] | BadRow]:
    """(where, row) pairs of a table, and BadRow for rows that cannot be read."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; name an annotation file")
    readers = {".json": _json, ".jsonl": _lines, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UserError(f"{path} is none of {', '.join(readers)}; rename it, or convert it")
    yield from readers[path.suffix](path)


def _json(path: Path) -> Iterator[tuple[str, Record] | BadRow]:
    try:
        rows = json.loads(path.read_bytes())
    except ValueError:
        yield from _lines(path)  # many files of JSON lines are called .json
        return
    if isinstance(rows, dict):
        rows = next((value for value in rows.values() if isinstance(value, list)), [rows])
    for number, row in enumerate(rows, 1):
        where = f"{path.name} row {number}"
        yield (
            (where, row)
            if isinstance(row, dict)
            else BadRow(where, f"it is {type(row).__name__}, not an object")
        )


def _lines(path: Path) -> Iterator[tuple[str, Record] | BadRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name} line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode())
            except UnicodeDecodeError:
                yield BadRow(where, "it is not UTF-8")
            except json.JSONDecodeError as error:
                yield BadRow(where, f"it is not JSON: {error}")
            else:
                yield (where, row) if isinstance(row, dict) else BadRow(where, "it is not a JSON object")


def _csv(path: Path) -> Iterator[tuple[str, Record] | BadRow]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        if not reader.fieldnames:
            raise UserError(f"{path} is empty; its first line must name the columns")
        for row in reader:
            where = f"{path.name} line {reader.line_num}"
            if any("\udc80" <= char <= "\udcff" for value in row.values() for char in str(value)):
                yield BadRow(where, "it is not UTF-8")
            elif None in row or None in row.values():
                yield BadRow(where, f"it has not {len(reader.fieldnames)} columns")
            else:
                yield where, row


def _parquet(path: Path) -> Iterator[tuple[str, Record] | BadRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path} is no whole Parquet file ({error}); fetch it again") from None
    number = 0
    for batch in file.iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield f"{path.name} row {number}", row
