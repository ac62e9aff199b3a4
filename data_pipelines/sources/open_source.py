"""Opens any source by path."""

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.sources.benchmarks.moments import Moments
from ivjax.data_pipelines.sources.benchmarks.question_set import QuestionSet
from ivjax.data_pipelines.sources.captions import Captions
from ivjax.data_pipelines.sources.hub.hub_dataset import HubDataset
from ivjax.data_pipelines.sources.instructions import InstructionLists, Instructions
from ivjax.data_pipelines.sources.internvid import InternVid
from ivjax.data_pipelines.sources.lists import FileList, Folder
from ivjax.data_pipelines.sources.recognise import recognise, shortcoming
from ivjax.data_pipelines.sources.row import Source
from ivjax.data_pipelines.sources.webdataset import WebDataset
from ivjax.errors import UserError

_FORMATS: Mapping[str, tuple[type, Mapping[str, Any]]] = {
    "internvid": (InternVid, {"captioned": True}),
    "labelled_ids": (InternVid, {"captioned": False, "caption_from": None}),
    "captions": (Captions, {}),
    "paragraphs": (Captions, {"paragraph": True}),
    "labels": (Captions, {"captioned": False}),
    "instructions": (Instructions, {}),
    "instruction_lists": (InstructionLists, {}),
    "mvbench": (QuestionSet, {"layout": "mvbench"}),
    "videomme": (QuestionSet, {"layout": "videomme"}),
    "perception_test": (QuestionSet, {"layout": "perception_test"}),
    "longvideobench": (QuestionSet, {"layout": "longvideobench"}),
    "mlvu": (QuestionSet, {"layout": "mlvu"}),
    "lvbench": (QuestionSet, {"layout": "lvbench"}),
    "niah": (QuestionSet, {"layout": "niah"}),
    "charades_sta": (Moments, {}),
    "hf": (HubDataset, {}),
    "webdataset": (WebDataset, {}),
    "folder": (Folder, {}),
    "kinetics": (FileList, {"layout": "kinetics"}),
    "videomae": (FileList, {"layout": "videomae"}),
    "frame_folders": (FileList, {"layout": "frame_folders"}),
    "intervals": (FileList, {"layout": "intervals"}),
    "multisource": (FileList, {"layout": "multisource"}),
}
KINDS = tuple(_FORMATS)


def open_source(
    path: str | Path, kind: str = "auto", videos: str | Path | None = None, **options: Any
) -> Source:
    """Returns the source of a path. `videos` is the folder of its media, by default that of the annotations.

    Options are those of the format's class, as text or as values: caption_from, split, min_words ...
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"{path} does not exist; name an annotation file, a folder, or tars{_hub_hint(path)}")
    kind = _recognised(path, options) if kind == "auto" else kind
    if kind not in _FORMATS:
        raise UserError(f"there is no source of kind {kind!r}; choose one of {', '.join(KINDS)}")
    format, fixed = _FORMATS[kind]
    root = Path(videos).expanduser() if videos is not None else path if path.is_dir() else path.parent
    places = (path,) if format in (WebDataset, Folder) else (path, root)
    return format(*places, **fixed, **_read_options(kind, options))


def _hub_hint(path: Path) -> str:
    """Returns what to do with the name of a dataset on the Hugging Face Hub, such as friends/videos."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) or path.parent.exists():
        return ""
    fetch = f"hf download {path} --repo-type dataset --local-dir DIR"
    return f". Nothing is downloaded here: `{fetch}` fetches a dataset of the Hub"


def open_source_of(
    path: str | Path, kind: str, videos: str | Path | None, options: Mapping[str, Any]
) -> Source:
    """Returns the source of a path, as `open_source`, with options by name; UserError for one of its own."""
    for name in ("path", "kind", "videos"):
        if name in options:
            told = f"{name}={options[name]} is no option of the annotations' format"
            raise UserError(f"{told}; give it as --{name}")
    return open_source(path, kind, videos, **options)


def _recognised(path: Path, options: Mapping[str, Any]) -> str:
    kind = recognise(path, options)
    if kind is None:
        raise UserError(
            f"the format of {path} is not recognised: {shortcoming(path)}; mend it, or say the format with "
            f"--kind: {', '.join(KINDS)}"
        )
    return kind


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
