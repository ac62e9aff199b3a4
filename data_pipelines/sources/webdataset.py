"""WebDataset tars, in which members with the same key are one sample."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.sources.columns import (
    attributes_of,
    captions_of,
    class_of,
    column,
    read_class,
    scores_of,
    texts_of,
    times_of,
)
from ivjax.data_pipelines.sources.convert import convert
from ivjax.data_pipelines.sources.media import media_of, member_path, read_media, tar_members
from ivjax.data_pipelines.sources.row import BadRow, SourceRow
from ivjax.errors import UserError

_SUFFIX = re.compile(r"\.[A-Za-z][^/]*$")


@dataclass(frozen=True)
class WebDataset:
    """A tar, or a folder of them, of key.mp4 or key.jpg beside key.txt (a caption), .json (columns), .cls.

    A key ends at the first dot that a letter follows, so that it may hold times (id_8.076_14.276.mp4).
    """

    path: Path

    def __iter__(self) -> Iterator[SourceRow | BadRow]:
        tars = sorted(self.path.glob("*.tar")) if self.path.is_dir() else [self.path]
        if not tars or not tars[0].exists():
            raise UserError(f"{self.path} holds no tars; name one, or a folder of them")
        return convert(_samples(tars), lambda sample: [_row(*sample)])


_Sample = tuple[Path, str, dict[str, str]]


def _samples(tars: list[Path]) -> Iterator[tuple[str, _Sample] | BadRow]:
    """Yields (tar, key, suffix -> member) of each sample."""
    for tar in tars:
        try:
            members = tar_members(tar)
        except OSError as error:
            yield BadRow(tar.name, str(error))
            continue
        samples: dict[str, dict[str, str]] = {}
        for member in members:
            suffix = _SUFFIX.search(member)
            key = member[: suffix.start()] if suffix else member
            samples.setdefault(key, {})[member[len(key) + 1 :].lower()] = member
        yield from ((f"{tar.name} {key}", (tar, key, files)) for key, files in samples.items())


def _row(tar: Path, key: str, members: Mapping[str, str]) -> SourceRow:
    media = [name for name in members.values() if media_of(name)]
    if len(media) != 1:
        raise ValueError(f"it has {len(media)} media files, not one")
    facts = _facts(tar, members)
    text = _text(tar, members["txt"]) if "txt" in members else column(facts, "captions")
    start, end = times_of(facts)
    kind = media_of(media[0])
    assert kind is not None
    label, class_name = read_class(_text(tar, members["cls"])) if "cls" in members else class_of(facts)
    return SourceRow(
        id=f"{tar.stem}/{key}",
        path=member_path(tar, media[0]),
        media=kind,
        start=start,
        end=end,
        captions=() if text is None else captions_of(text),
        texts=texts_of(facts),
        label=label,
        class_name=class_name,
        video=f"{tar.stem}/{key}",
        scores=scores_of(facts),
        attributes=attributes_of(facts),
    )


def _facts(tar: Path, members: Mapping[str, str]) -> Mapping[str, Any]:
    if "json" not in members:
        return {}
    try:
        facts = json.loads(_text(tar, members["json"]))
    except json.JSONDecodeError as error:
        raise ValueError(f"its .json is broken: {error}") from None
    if not isinstance(facts, dict):
        raise ValueError("its .json is not an object")
    return facts


def _text(tar: Path, member: str) -> str:
    try:
        return read_media(member_path(tar, member)).decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{member} is not UTF-8") from None
