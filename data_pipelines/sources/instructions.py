"""Conversations about media: VideoChat2-IT, LLaVA, the lists of VideoChat-Flash and InternVideo2.5."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ivjax.data_pipelines.records import Turn
from ivjax.data_pipelines.sources.columns import times_of
from ivjax.data_pipelines.sources.media import existing_media
from ivjax.data_pipelines.sources.row import BadRow, Row
from ivjax.data_pipelines.sources.tables import Record, read_table
from ivjax.data_pipelines.sources.times import clip_id
from ivjax.errors import UserError

_ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_PLACEHOLDERS = ("<image>", "<video>")
_RANDOM_SEED = 42


@dataclass(frozen=True)
class Instructions:
    """Rows with `QA` pairs (VideoChat2-IT) or `conversations` (LLaVA); media lie below `root`."""

    table: Path
    root: Path
    strategy: str = "all"
    name: str = ""

    def __iter__(self) -> Iterator[Row | BadRow]:
        if self.strategy == "all":
            yield from map(self._one, enumerate(read_table(self.table)))
        else:
            found = list(enumerate(read_table(self.table)))
            yield from (self._one(found[index]) for index in choose(len(found), self.strategy))

    def _one(self, numbered: tuple[int, tuple[str, Record] | BadRow]) -> Row | BadRow:
        number, found = numbered
        if isinstance(found, BadRow):
            return found
        where, record = found
        try:
            return self._row(number, record)
        except (ValueError, TypeError, KeyError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            return BadRow(where, reason)

    def _row(self, number: int, record: Record) -> Row:
        path = record.get("video") or record.get("image")
        if not path:
            raise ValueError("it has neither a video nor an image")
        if isinstance(path, list):
            if len(path) != 1:
                raise ValueError(f"it has {len(path)} images or videos, not one")
            path = path[0]
        file, media = existing_media(self.root, path)
        start, end = times_of(_clip_times(record))
        prefix = f"{self.name}/" if self.name else ""
        return Row(
            id=f"{prefix}{clip_id(path, start, end)}#{number}",
            path=file,
            media=media,
            start=start,
            end=end,
            conversation=conversation_of(record),
            video=path,
        )


def conversation_of(record: Record) -> tuple[Turn, ...]:
    """The turns of a VideoChat2 or LLaVA row, without the placeholders that stand for the media."""
    if "QA" in record:
        turns = list(_question_turns(record["QA"]))
    else:
        turns = [_turn(turn) for turn in record["conversations"]]
    if not any(turn.role == "assistant" for turn in turns):
        raise ValueError("its conversation has no answer")
    return tuple(turns)


def _question_turns(pairs: Sequence[Mapping[str, str]]) -> Iterator[Turn]:
    if pairs and pairs[0].get("i"):
        yield Turn("system", pairs[0]["i"].strip())
    for pair in pairs:
        yield Turn("user", pair.get("q", "").strip())
        yield Turn("assistant", pair["a"].strip())


def _turn(turn: Mapping[str, str]) -> Turn:
    role = str(turn.get("from", turn.get("role")))
    if role not in _ROLES:
        raise ValueError(f"its conversation has a turn of {role!r}")
    text = str(turn.get("value", turn.get("content", "")))
    for placeholder in _PLACEHOLDERS:
        text = text.replace(placeholder, "")
    return Turn(_ROLES[role], text.strip())


def _clip_times(record: Record) -> Record:
    """`clip: [start, end]` beside start and end."""
    clip = record.get("clip")
    return {"start": clip[0], "end": clip[1]} if isinstance(clip, list) and len(clip) == 2 else record


def choose(count: int, strategy: str) -> list[int]:
    """Which of `count` rows all, first:N, end:N or random:N takes; N may be a number or N%."""
    if strategy == "all":
        return list(range(count))
    kind, _, amount = strategy.partition(":")
    try:
        share = math.ceil(count * float(amount[:-1]) / 100) if amount.endswith("%") else int(amount)
    except ValueError:
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

    Relative paths are below `root`. How often a file is to be repeated is left to the weights of a mixture.
    """

    table: Path
    root: Path

    def __iter__(self) -> Iterator[Row | BadRow]:
        for part in self.parts():
            yield from part

    def parts(self) -> Iterator[Instructions]:
        """The instruction files of the list."""
        if not self.table.is_file():
            raise UserError(f"{self.table} does not exist; name a list of instruction files")
        for name, annotation, media, strategy in self._entries():
            yield Instructions(self.root / annotation, self.root / media, strategy, name)

    def _entries(self) -> Iterator[tuple[str, str, str, str]]:
        try:
            for number, (name, entry) in enumerate(self._read()):
                annotation = entry.get("json_path") or entry["annotation"]
                media = entry.get("data_root") or entry.get("root") or ""
                strategy = str(entry.get("sampling_strategy") or "all")
                yield f"{number}-{name or Path(annotation).stem}", annotation, media, strategy
        except (KeyError, AttributeError, TypeError) as error:
            raise UserError(
                f"{self.table} has an entry without json_path or annotation ({type(error).__name__}: {error})"
            ) from None

    def _read(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if self.table.suffix in (".yaml", ".yml"):
            import yaml

            try:
                content = yaml.safe_load(self.table.read_text())
            except yaml.YAMLError as error:
                raise UserError(f"{self.table} is no YAML: {error}") from None
            entries = content.get("datasets", []) if isinstance(content, dict) else content
            yield from (("", entry) for entry in entries or [])
        else:
            yield from json.loads(self.table.read_text()).items()


def is_instruction(record: Record) -> bool:
    """Whether a row of a table is a conversation."""
    return "QA" in record or "conversations" in record
