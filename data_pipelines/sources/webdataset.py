"""WebDataset tars: members with the same key belong together."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.sources.columns import (
    attributes_of,
    captions_of,
    column,
    label_of,
    scores_of,
    times_of,
)
from ivjax.data_pipelines.sources.media import media_of, member_path, read_media, tar_members
from ivjax.data_pipelines.sources.row import BadRow, Row
from ivjax.errors import UserError


@dataclass(frozen=True)
class WebDataset:
    """Tars of key.mp4 or key.jpg beside key.txt (a caption), key.json (columns) or key.cls (a label)."""

    tars: tuple[Path, ...]

    def __iter__(self) -> Iterator[Row | BadRow]:
        for tar in self.tars:
            if not tar.is_file():
                raise UserError(f"{tar} does not exist; name tars, or a folder of them")
            for key, members in _samples(tar):
                try:
                    yield _row(tar, key, members)
                except (ValueError, TypeError) as error:
                    yield BadRow(f"{tar.name} {key}", str(error))


def _samples(tar: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(key, suffix -> member) of each sample; its members follow each other."""
    samples: dict[str, dict[str, str]] = {}
    for member in tar_members(tar):
        folder, slash, name = member.rpartition("/")
        stem, _, suffix = name.partition(".")
        samples.setdefault(f"{folder}{slash}{stem}", {})[suffix.lower()] = member
    yield from samples.items()


def _row(tar: Path, key: str, members: Mapping[str, str]) -> Row:
    media = [name for name in members.values() if media_of(name)]
    if len(media) != 1:
        raise ValueError(f"it has {len(media)} media files, not one")
    facts = _facts(tar, members)
    text = _text(tar, members["txt"]) if "txt" in members else column(facts, "captions")
    start, end = times_of(facts)
    kind = media_of(media[0])
    assert kind is not None
    return Row(
        id=f"{tar.stem}/{key}",
        path=member_path(tar, media[0]),
        media=kind,
        start=start,
        end=end,
        captions=() if text is None else captions_of(text),
        label=int(_text(tar, members["cls"])) if "cls" in members else label_of(facts),
        video=f"{tar.stem}/{key}",
        scores=scores_of(facts),
        attributes=attributes_of(facts),
    )


def _facts(tar: Path, members: Mapping[str, str]) -> Mapping[str, Any]:
    if "json" not in members:
        return {}
    facts = json.loads(_text(tar, members["json"]))
    if not isinstance(facts, dict):
        raise ValueError("its .json is not an object")
    return facts


def _text(tar: Path, member: str) -> str:
    return read_media(member_path(tar, member)).decode().strip()
