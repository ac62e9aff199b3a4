"""Instruction files: VideoChat2-IT, LLaVA, and the lists of VideoChat-Flash and InternVideo2.5."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.data_pipelines.sources.columns import times_of, with_columns
from ivjax.data_pipelines.sources.conversations import COLUMNS, attributes_of, conversation_of
from ivjax.data_pipelines.sources.convert import convert
from ivjax.data_pipelines.sources.media import existing_media
from ivjax.data_pipelines.sources.row import BadRow, RowError, SourceRow
from ivjax.data_pipelines.sources.tables import Found, Record, load_json, read_table
from ivjax.data_pipelines.sources.times import clip_id
from ivjax.data_pipelines.store.records import MediaKind
from ivjax.errors import UserError

LIST_SUFFIXES = (".yaml", ".yml")
_RANDOM_SEED = 42


@dataclass(frozen=True)
class Instructions:
    """Rows with `QA` pairs (VideoChat2-IT), `conversations` (LLaVA) or `question` and `answer`.

    Attributes:
        table: the annotation file.
        root: the folder that its paths are relative to.
        strategy: which rows are taken, see `choose`.
        name: stands before the ids.
        fps: frames a second of folders of frames, which do not say it themselves.
    """

    table: Path
    root: Path
    strategy: str = "all"
    name: str = ""
    fps: float | None = None

    def __iter__(self) -> Iterator[SourceRow | BadRow]:
        records = with_columns(self.table, read_table(self.table), {"conversation": COLUMNS})
        if self.strategy == "all":
            return convert(map(_numbered, enumerate(records)), self._rows)
        found = list(map(_numbered, enumerate(records)))
        return convert((found[index] for index in choose(len(found), self.strategy)), self._rows)

    def _rows(self, numbered: tuple[int, Record]) -> Iterator[SourceRow]:
        number, record = numbered
        path, *others = _paths(record)
        file, media = self._media(path)
        more = [self._media(other) for other in others]
        if any(kind != media for _, kind in more):
            raise ValueError("it has images and videos, and a conversation is about media of one kind")
        start, end = times_of(_clip_times(record))
        prefix = f"{self.name}/" if self.name else ""
        yield SourceRow(
            id=f"{prefix}{clip_id(path, start, end)}#{number}",
            path=file,
            media=media,
            start=start,
            end=end,
            conversation=conversation_of(record, 1 + len(more)),
            video=path,
            attributes=attributes_of(record),
            frame_rate=self.fps if Path(file).is_dir() else None,
            more=tuple(file for file, _ in more),
        )

    def _media(self, path: object) -> tuple[str, MediaKind]:
        if isinstance(path, str) and path and not (self.root / path).exists():
            raise RowError(f"{self.root / path} does not exist", "missing media")
        return existing_media(self.root, path, self.fps)


def _numbered(item: tuple[int, Found]) -> tuple[str, tuple[int, Record]] | BadRow:
    """Returns the record with its number, which tells conversations about one file apart."""
    number, found = item
    return found if isinstance(found, BadRow) else (found[0], (number, found[1]))


def _paths(record: Record) -> list[Any]:
    path = record.get("video") or record.get("image")
    if not path:
        raise ValueError("it has neither a video nor an image")
    return path if isinstance(path, list) else [path]


def _clip_times(record: Record) -> Record:
    """Returns start and end, also of `clip: [start, end]`."""
    clip = record.get("clip")
    return {"start": clip[0], "end": clip[1]} if isinstance(clip, list) and len(clip) == 2 else record


def choose(count: int, strategy: str) -> list[int]:
    """Returns the numbers of the rows that a strategy takes: all, first:N, end:N, random:N; N may be N%."""
    if strategy == "all":
        return list(range(count))
    kind, _, amount = strategy.partition(":")
    try:
        share = math.ceil(count * float(amount[:-1]) / 100) if amount.endswith("%") else int(amount)
    except (ValueError, OverflowError):
        share = -1
    if kind not in ("first", "end", "random") or share < 0:
        raise UserError(f"sampling strategy {strategy!r} is none of all, first:N, end:N, random:N (or N%)")
    share = min(share, count)
    if kind == "random":
        return sorted(int(i) for i in np.random.default_rng(_RANDOM_SEED).permutation(count)[:share])
    return list(range(share)) if kind == "first" else list(range(count - share, count))


@dataclass(frozen=True)
class InstructionLists:
    """A list of instruction files: VideoChat-Flash's YAML, or InternVideo2.5's JSON description.

    How often a file is to be repeated is left to the weights of a mixture.

    Attributes:
        table: the list; annotations are beside it or below `root`.
        root: the folder of the media.
        fps: frames a second of folders of frames, which do not say it themselves.
    """

    table: Path
    root: Path
    fps: float | None = None

    def __iter__(self) -> Iterator[SourceRow | BadRow]:
        for file in self.files():
            yield from file

    def files(self) -> Iterator[Instructions]:
        """Yields the instruction files of the list."""
        if not self.table.is_file():
            raise UserError(f"{self.table} does not exist; name a list of instruction files")
        for number, (name, entry) in enumerate(self._entries()):
            annotation = entry.get("json_path") or entry.get("annotation")
            if not annotation:
                raise UserError(
                    f"entry {name or number + 1} of {self.table} has no json_path or annotation; add it"
                )
            beside = self.table.parent / annotation
            yield Instructions(
                beside if beside.is_file() else self.root / annotation,
                self.root / (entry.get("data_root") or entry.get("root") or ""),
                str(entry.get("sampling_strategy") or "all"),
                f"{number}-{name or Path(annotation).stem}",
                self.fps,
            )

    def _entries(self) -> list[tuple[str, Mapping[str, Any]]]:
        if self.table.suffix.lower() in LIST_SUFFIXES:
            content = _load_yaml(self.table)
            listed = content.get("datasets") if isinstance(content, dict) else content
            entries = [("", entry) for entry in listed] if isinstance(listed, list) else None
        else:
            content = load_json(self.table)
            entries = list(content.items()) if isinstance(content, dict) else None
        if not entries or not all(isinstance(entry, Mapping) for _, entry in entries):
            raise UserError(
                f"{self.table} is no list of instruction files; write `datasets:` with a json_path and a "
                "data_root for each, or a JSON object of {name: {annotation, root}}"
            )
        return entries


def _load_yaml(path: Path) -> Any:
    import yaml

    try:
        # safe_load: a plain load would run code that a file names.
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML: {error}") from None
