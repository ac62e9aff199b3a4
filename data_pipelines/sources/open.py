"""Opens any source by path, recognising its format."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.sources.captions import SQLITE_SUFFIXES, Captions
from ivjax.data_pipelines.sources.columns import has_column
from ivjax.data_pipelines.sources.instructions import InstructionLists, Instructions, is_instruction
from ivjax.data_pipelines.sources.internvid import InternVid
from ivjax.data_pipelines.sources.lists import FileList, Folder
from ivjax.data_pipelines.sources.row import BadRow, Source
from ivjax.data_pipelines.sources.tables import TABLE_SUFFIXES, read_table
from ivjax.data_pipelines.sources.webdataset import WebDataset
from ivjax.errors import UserError

_FIELDS_OF_LISTS = {2: "kinetics", 3: "videomae", 6: "multisource"}
_LOOKED_AT = 20  # rows; the first good one tells the format


def _paragraphs(path: Path, videos: Path, **options: Any) -> Source:
    return Captions(path, videos, paragraph=True, **options)


def _labels(path: Path, videos: Path, **options: Any) -> Source:
    return Captions(path, videos, captioned=False, **options)


def _tars(path: Path, videos: Path) -> Source:
    return WebDataset(tuple(sorted(path.glob("*.tar"))) if path.is_dir() else (path,))


def _list(layout: Any) -> Callable[..., Source]:
    return lambda path, videos, **options: FileList(path, videos, layout, **options)


KINDS: Mapping[str, Callable[..., Source]] = {
    "internvid": InternVid,
    "captions": Captions,
    "paragraphs": _paragraphs,
    "labels": _labels,
    "instructions": Instructions,
    "instruction_lists": InstructionLists,
    "webdataset": _tars,
    "folder": lambda path, videos: Folder(path),
    "kinetics": _list("kinetics"),
    "videomae": _list("videomae"),
    "multisource": _list("multisource"),
}


def open_source(
    path: str | Path, kind: str = "auto", videos: str | Path | None = None, **options: Any
) -> Source:
    """The rows of a source. `videos` is where its media lie: by default beside the annotations.

    Options are those of the format's class, as text or as values: caption_from, split, min_words ...
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"{path} does not exist; name an annotation file, a folder, or tars")
    kind = _recognise(path) if kind == "auto" else kind
    if kind not in KINDS:
        raise UserError(f"there is no source of kind {kind!r}; choose one of {', '.join(KINDS)}")
    root = Path(videos).expanduser() if videos is not None else path if path.is_dir() else path.parent
    try:
        return KINDS[kind](path, root, **{name: _value(value) for name, value in options.items()})
    except TypeError as error:
        raise UserError(f"a source of kind {kind} does not take these options: {error}") from None


def _value(value: Any) -> Any:
    """Command lines give text."""
    words: dict[Any, Any] = {"true": True, "false": False, "none": None}
    if isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value)
    return words.get(value, value) if isinstance(value, str) else value


def _recognise(path: Path) -> str:
    if path.is_dir():
        return "webdataset" if any(path.glob("*.tar")) else "folder"
    by_suffix = {".tar": "webdataset", ".yaml": "instruction_lists", ".yml": "instruction_lists"}
    by_suffix |= dict.fromkeys(SQLITE_SUFFIXES, "captions")
    found = by_suffix.get(path.suffix) or _by_fields(path) or _by_columns(path)
    if found is None:
        raise UserError(f"the format of {path} is not recognised; say which with --kind: {', '.join(KINDS)}")
    return found


def _by_fields(path: Path) -> str | None:
    """Lists without a line of column names."""
    if path.suffix not in (".txt", ".list", ".csv"):
        return None
    with path.open(errors="replace") as file:
        line = next((line.strip() for line in file if line.strip()), "")
    fields = [field.strip() for field in line.split("," if "," in line else None)]
    last = fields[-1] if fields else ""
    if not last.lstrip("-").isdigit():
        return None
    return _FIELDS_OF_LISTS.get(len(fields))


def _by_columns(path: Path) -> str | None:
    if path.suffix not in TABLE_SUFFIXES:
        return None
    if path.suffix == ".json" and _is_description(path):
        return "instruction_lists"
    rows = (
        found for found in itertools.islice(read_table(path), _LOOKED_AT) if not isinstance(found, BadRow)
    )
    _, record = next(rows, ("", {}))
    if is_instruction(record):
        return "instructions"
    if has_column(record, "id") and has_column(record, "captions") and not ({"path", "image"} & set(record)):
        return "internvid"
    if has_column(record, "path"):
        return "captions" if has_column(record, "captions") or "option" in record else "labels"
    return None


def _is_description(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    values = list(content.values()) if isinstance(content, dict) else []
    return bool(values) and all(isinstance(value, dict) and "annotation" in value for value in values)
