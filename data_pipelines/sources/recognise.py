"""Recognises the format of a source by its suffix, its first line or its columns."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.sources.benchmarks.layouts import layout_of
from ivjax.data_pipelines.sources.benchmarks.moments import is_moment, is_moment_line
from ivjax.data_pipelines.sources.captions import SQLITE_SUFFIXES
from ivjax.data_pipelines.sources.columns import ALIASES, has_column, plain
from ivjax.data_pipelines.sources.conversations import is_instruction
from ivjax.data_pipelines.sources.hub.data_files import is_dataset
from ivjax.data_pipelines.sources.instructions import LIST_SUFFIXES
from ivjax.data_pipelines.sources.lists import split_path
from ivjax.data_pipelines.sources.media import media_of
from ivjax.data_pipelines.sources.row import BadRow
from ivjax.data_pipelines.sources.tables import TABLE_SUFFIXES, Record, read_table

LINE_SUFFIXES = (".txt", ".list", ".csv")
_FIELDS_OF_LISTS = {2: "kinetics", 3: "videomae", 5: "intervals", 6: "multisource"}
_LAYOUTS = (
    "`path label`, `path start total`, `path total start end label`, `source path total start end label`"
)
_LOOKED_AT = 20  # rows; the first good one tells the format
_LINE = 80  # characters of a line that a message shows


def recognise(path: Path, options: Mapping[str, Any]) -> str | None:
    """Returns the kind of a source, as `open_source` names it; None if its format is not known."""
    if path.is_dir():
        return _by_content(path)
    by_suffix = {".tar": "webdataset", ".arrow": "hf"} | dict.fromkeys(LIST_SUFFIXES, "instruction_lists")
    by_suffix |= dict.fromkeys(SQLITE_SUFFIXES, "captions")
    # Cells before rows, which would hold whole videos. Fields before columns: a list without a header would
    # lose its first row as names of columns.
    found = by_suffix.get(path.suffix.lower()) or _by_cells(path)
    return found or _by_fields(path) or _by_columns(path, options)


def _by_content(folder: Path) -> str | None:
    """Returns the kind of a folder: tars, a table of questions for each task, a dataset, or media."""
    if any(folder.glob("*.tar")):
        return "webdataset"
    tables = sorted(folder.glob("*.json"))
    found = layout_of(_first_rows(tables[0])[0]) if tables else None
    return found or ("hf" if is_dataset(folder, _names_media) else "folder")


def _names_media(table: Path) -> bool:
    """Whether a table says where the media of its rows are, or holds them."""
    from ivjax.data_pipelines.sources.hub.table import holds_media  # here, because pyarrow takes a while

    return holds_media(table)


def _by_cells(path: Path) -> str | None:
    """Returns the kind of a table that holds the media themselves."""
    if path.suffix.lower() != ".parquet":
        return None
    from ivjax.data_pipelines.sources.hub.table import holds_cells  # here, because pyarrow takes a while

    return "hf" if holds_cells(path) else None


def _by_fields(path: Path) -> str | None:
    """Returns the kind of a list without a line of column names, by its number of fields."""
    if path.suffix.lower() not in LINE_SUFFIXES:
        return None
    line = _first_line(path)
    if is_moment_line(line):
        return "charades_sta"
    fields = _fields(line)
    whole = [field.removeprefix("-").isdecimal() for field in fields]
    if len(fields) < 2:
        return None
    if not whole[-1]:
        return _by_class_name(line, fields)
    if len(fields) == 3 and not whole[1]:
        return "kinetics"  # a path with a blank
    return _FIELDS_OF_LISTS.get(len(fields))


def _by_class_name(line: str, fields: Sequence[str]) -> str | None:
    """Returns the kind of a list whose lines end with the name of a class; None if they may not."""
    if len(fields) in (5, 6) and all(map(_is_number, fields[-4:-1])):
        return _FIELDS_OF_LISTS[len(fields)]
    path, *label = fields if "," in line else split_path(line)
    # A line of column names has no path.
    return "kinetics" if len(label) == 1 and media_of(path) else None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _by_columns(path: Path, options: Mapping[str, Any]) -> str | None:
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return None
    record, _ = _first_rows(path)
    if (benchmark := layout_of(record) or _by_videos(record)) is not None:
        return benchmark
    if is_moment(record):
        return "charades_sta"
    if is_instruction(record):
        return "instructions"
    if _is_description(record):
        return "instruction_lists"
    if "caption_from" in options or _is_internvid(record):
        return "internvid"
    if has_column(record, "id") and has_column(record, "label") and not has_column(record, "path"):
        return "labelled_ids"
    if has_column(record, "path"):
        return "captions" if has_column(record, "captions") or "option" in record else "labels"
    return None


def _is_internvid(record: Record) -> bool:
    captioned = has_column(record, "captions") or any("caption" in plain(name) for name in record)
    return captioned and has_column(record, "id") and not {"path", "image"} & set(record)


def _by_videos(record: Record) -> str | None:
    """Returns the kind of an object with a video's questions below each name."""
    first = next(iter(record.values()), None)
    return layout_of(first) if isinstance(first, Mapping) and "mc_question" in first else None


def _is_description(record: Record) -> bool:
    """Whether the only row is InternVideo2.5's {name: {annotation, root, ...}}."""
    values = list(record.values())
    return bool(values) and all(isinstance(value, dict) and "annotation" in value for value in values)


def shortcoming(path: Path) -> str:
    """Returns what a source that is not recognised lacks of the nearest format."""
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return _list_shortcoming(path)
    first = _first_line(path)
    if path.suffix.lower() == ".csv" and media_of(_fields(first or " , ")[0]):
        return f"its first line names no columns and is none of {_LAYOUTS}"
    record, bad = _first_rows(path)
    if not record:
        return f"{bad.where}: {bad.reason}" if bad else "it has no rows"
    has = f"it has {', '.join(map(str, record))}"
    if has_column(record, "id"):
        return (
            "with its video ids it comes nearest to internvid, and lacks a column for captions "
            f"({_any('captions')}; any other is named by --set caption_from=COLUMN) or for a class "
            f"({_any('label')}); {has}"
        )
    needed = f"a column for path ({_any('path')}) or for the video's id ({_any('id')})"
    if has_column(record, "captions"):
        return f"with its captions it comes nearest to captions, and lacks {needed}; {has}"
    return f"a table needs {needed}; {has}"


def _list_shortcoming(path: Path) -> str:
    if path.suffix.lower() not in LINE_SUFFIXES:
        known = (*TABLE_SUFFIXES, *LINE_SUFFIXES, ".tar", *LIST_SUFFIXES, *SQLITE_SUFFIXES)
        return f"its name ends in none of {', '.join(dict.fromkeys(known))}"
    line = _first_line(path)
    return f"its first line is none of {_LAYOUTS}: {line[:_LINE]!r}" if line else "it is empty"


def _any(kind: str) -> str:
    return f"any of {', '.join(ALIASES[kind])}"


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return next((line.strip() for line in file if line.strip()), "")


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split("," if "," in line else None)]


def _first_rows(path: Path) -> tuple[Record, BadRow | None]:
    """Returns the first good row of a table, empty if there is none, and the first bad one."""
    looked_at = list(itertools.islice(read_table(path), _LOOKED_AT))
    record: Record = next((found[1] for found in looked_at if not isinstance(found, BadRow)), {})
    return record, next((found for found in looked_at if isinstance(found, BadRow)), None)
