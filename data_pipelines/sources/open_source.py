"""Opens any source by path and recognises its format."""

import dataclasses
import itertools
import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.sources.captions import SQLITE_SUFFIXES, Captions
from ivjax.data_pipelines.sources.columns import has_column, plain
from ivjax.data_pipelines.sources.conversations import is_instruction
from ivjax.data_pipelines.sources.instructions import LIST_SUFFIXES, InstructionLists, Instructions
from ivjax.data_pipelines.sources.internvid import InternVid
from ivjax.data_pipelines.sources.lists import FileList, Folder, split_path
from ivjax.data_pipelines.sources.media import media_of
from ivjax.data_pipelines.sources.row import BadRow, Source
from ivjax.data_pipelines.sources.tables import TABLE_SUFFIXES, Record, read_table
from ivjax.data_pipelines.sources.webdataset import WebDataset
from ivjax.errors import UserError

_FORMATS: Mapping[str, tuple[type, Mapping[str, Any]]] = {
    "internvid": (InternVid, {}),
    "captions": (Captions, {}),
    "paragraphs": (Captions, {"paragraph": True}),
    "labels": (Captions, {"captioned": False}),
    "instructions": (Instructions, {}),
    "instruction_lists": (InstructionLists, {}),
    "webdataset": (WebDataset, {}),
    "folder": (Folder, {}),
    "kinetics": (FileList, {"layout": "kinetics"}),
    "videomae": (FileList, {"layout": "videomae"}),
    "frame_folders": (FileList, {"layout": "frame_folders"}),
    "intervals": (FileList, {"layout": "intervals"}),
    "multisource": (FileList, {"layout": "multisource"}),
}
KINDS = tuple(_FORMATS)
_FIELDS_OF_LISTS = {2: "kinetics", 3: "videomae", 5: "intervals", 6: "multisource"}
_LOOKED_AT = 20  # rows; the first good one tells the format


def open_source(
    path: str | Path, kind: str = "auto", videos: str | Path | None = None, **options: Any
) -> Source:
    """Returns the source of a path. `videos` is the folder of its media, by default that of the annotations.

    Options are those of the format's class, as text or as values: caption_from, split, min_words ...
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"{path} does not exist; name an annotation file, a folder, or tars")
    kind = _recognise(path, options) if kind == "auto" else kind
    if kind not in _FORMATS:
        raise UserError(f"there is no source of kind {kind!r}; choose one of {', '.join(KINDS)}")
    format, fixed = _FORMATS[kind]
    root = Path(videos).expanduser() if videos is not None else path if path.is_dir() else path.parent
    places = (path,) if format in (WebDataset, Folder) else (path, root)
    return format(*places, **fixed, **_read_options(kind, options))


def _read_options(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options in the types of the format's fields; command lines give text."""
    format, fixed = _FORMATS[kind]
    types = typing.get_type_hints(format)
    fields = (field for field in dataclasses.fields(format) if field.default is not dataclasses.MISSING)
    known = {field.name: types[field.name] for field in fields if field.name not in fixed}
    for name in options:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise UserError(f"a source of kind {kind} has no option {name!r}; {has}")
    return {name: _read(name, value, known[name]) for name, value in options.items()}


def _read(name: str, value: Any, wanted: Any) -> Any:
    read = value
    if wanted is bool and isinstance(value, str):
        read = {"true": True, "false": False}.get(value.lower(), value)
    if wanted is int and isinstance(value, str) and value.isdecimal():
        read = int(value)
    if wanted == float | None:
        read = _rate(value)
    if not isinstance(read, wanted):
        words = {bool: "true or false", int: "a whole number", float | None: "a number above 0"}
        raise UserError(f"the source's option {name}={value!r} is not {words.get(wanted, 'text')}")
    return read


def _rate(value: Any) -> Any:
    """Returns a number above 0; anything else unchanged or as text, which the caller refuses."""
    try:
        rate = float(value)
    except (TypeError, ValueError):
        return value
    return rate if 0 < rate < math.inf else str(value)


def _recognise(path: Path, options: Mapping[str, Any]) -> str:
    if path.is_dir():
        return "webdataset" if any(path.glob("*.tar")) else "folder"
    by_suffix = {".tar": "webdataset"} | dict.fromkeys(LIST_SUFFIXES, "instruction_lists")
    by_suffix |= dict.fromkeys(SQLITE_SUFFIXES, "captions")
    # Fields before columns: a list without a header would lose its first row as names of columns.
    found = by_suffix.get(path.suffix.lower()) or _by_fields(path) or _by_columns(path, options)
    if found is None:
        raise UserError(f"the format of {path} is not recognised; say which with --kind: {', '.join(KINDS)}")
    return found


def _by_fields(path: Path) -> str | None:
    """Returns the kind of a list without a line of column names, by its number of fields."""
    if path.suffix.lower() not in (".txt", ".list", ".csv"):
        return None
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = next((line.strip() for line in file if line.strip()), "")
    fields = [field.strip() for field in line.split("," if "," in line else None)]
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
    looked_at = itertools.islice(read_table(path), _LOOKED_AT)
    record: Record = next((found[1] for found in looked_at if not isinstance(found, BadRow)), {})
    if is_instruction(record):
        return "instructions"
    if _is_description(record):
        return "instruction_lists"
    if "caption_from" in options or _is_internvid(record):
        return "internvid"
    if has_column(record, "path"):
        return "captions" if has_column(record, "captions") or "option" in record else "labels"
    return None


def _is_internvid(record: Record) -> bool:
    captioned = has_column(record, "captions") or any("caption" in plain(name) for name in record)
    return captioned and has_column(record, "id") and not {"path", "image"} & set(record)


def _is_description(record: Record) -> bool:
    """Whether the only row is InternVideo2.5's {name: {annotation, root, ...}}."""
    values = list(record.values())
    return bool(values) and all(isinstance(value, dict) and "annotation" in value for value in values)
