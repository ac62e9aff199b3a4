"""Conversations of a build: their media become clips, each stored once, which they name by number."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ivjax.data_pipelines.build.clip_recipe import Drop
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.sources.times import clip_id
from ivjax.data_pipelines.store.dialogues import Dialogue, MediaPart, pack_dialogue
from ivjax.data_pipelines.store.manifest import Manifest, ShardInfo
from ivjax.data_pipelines.store.records import ClipError, Turn, split
from ivjax.data_pipelines.store.shards import Shards, ShardWriter

_SHARD = 100_000  # conversations of a shard, which are small


class TalkMedia(NamedTuple):
    """A medium of a conversation.

    Attributes:
        path: its file.
        start: second at which it begins; None is the beginning of the file.
        end: second at which it ends; None is the end of the file.
        clip: id of the clip that is made of the file.
    """

    path: str
    start: float | None
    end: float | None
    clip: str = ""


class Talk(NamedTuple):
    """A conversation whose media are not stored yet."""

    id: str
    media: tuple[TalkMedia, ...]
    turns: tuple[Turn, ...]
    attributes: Mapping[str, str]


class Separated(NamedTuple):
    """Rows of clips, among them one for each file that is spoken of, and the conversations."""

    rows: list[SourceRow]
    talks: tuple[Talk, ...]


def separate(rows: Sequence[SourceRow]) -> Separated:
    """Takes conversations out of rows. What all conversations of a file need of it becomes one row."""
    others = [row for row in rows if not row.conversation]
    talks: list[Talk] = []
    needed: dict[str, SourceRow] = {}
    for row in rows:
        if not row.conversation:
            continue
        media = (TalkMedia(row.path, row.start, row.end), *(TalkMedia(path, None, None) for path in row.more))
        talks.append(Talk(row.id, media, row.conversation, row.attributes))
        for part in media:
            # Further media of a row have the first one's kind: a list of images, or of videos.
            name = row.video if part.path == row.path and row.video else PurePosixPath(part.path).name
            found = SourceRow(
                "", part.path, row.media, part.start, part.end, video=name, frame_rate=row.frame_rate
            )
            before = needed.get(part.path)
            needed[part.path] = found if before is None else _both(before, found)
    stored = list(
        _distinct([replace(row, id=clip_id(row.video, row.start, row.end)) for row in needed.values()])
    )
    ids = {row.path: row.id for row in stored}
    named = (
        talk._replace(media=tuple(part._replace(clip=ids[part.path]) for part in talk.media))
        for talk in talks
    )
    return Separated([*others, *stored], tuple(named))


def _both(one: SourceRow, other: SourceRow) -> SourceRow:
    """Returns a row from the earlier beginning to the later end."""
    start = None if one.start is None or other.start is None else min(one.start, other.start)
    end = None if one.end is None or other.end is None else max(one.end, other.end)
    return replace(one, start=start, end=end)


def _distinct(rows: Sequence[SourceRow]) -> Iterator[SourceRow]:
    """Yields rows with ids that are all different: files of two folders may have one name."""
    met: Counter[str] = Counter()
    for row in rows:
        yield replace(row, id=f"{row.id}#{met[row.id]}") if met[row.id] else row
        met[row.id] += 1


def talks_digest(talks: Sequence[Talk]) -> str:
    """Returns a hash of conversations; folders do not change it."""
    digest = hashlib.sha256()
    for talk in talks:
        media = [(Path(part.path).name, part.start, part.end) for part in talk.media]
        digest.update(repr((talk.id, media, talk.turns, sorted(talk.attributes.items()))).encode())
    return digest.hexdigest()


class _StoredClip(NamedTuple):
    number: int
    header: Mapping[str, Any]


def write_dialogues(
    folder: Path, clips: Manifest, talks: Sequence[Talk]
) -> tuple[tuple[ShardInfo, ...], list[Drop]]:
    """Writes the shards of conversations about stored clips; returns them, and those without media."""
    stored = _stored(folder, clips)
    drops: list[Drop] = []
    dialogues: list[Dialogue] = []
    for talk in talks:
        try:
            parts = tuple(_part(media, stored.get(media.clip)) for media in talk.media)
        except ClipError as error:
            drops.append(Drop(talk.id, talk.media[0].path, error.cause, error.detail))
            continue
        dialogues.append(Dialogue(talk.id, parts, talk.turns, talk.attributes))
    total = -(-len(dialogues) // _SHARD)
    infos: list[ShardInfo] = []
    for number in range(total):
        path = folder / f"dialogues-{number:05d}-of-{total:05d}.array_record"
        with ShardWriter(path) as shard:
            for dialogue in dialogues[number * _SHARD : (number + 1) * _SHARD]:
                shard.write(pack_dialogue(dialogue))
        infos.append(shard.info)
    return tuple(infos), drops


def _stored(folder: Path, manifest: Manifest) -> dict[str, _StoredClip]:
    """Returns number and header of each stored clip by its id."""
    found: dict[str, _StoredClip] = {}
    with Shards(folder, manifest) as shards:
        for number in range(len(shards)):
            header, _ = split(shards[number])
            found[header["id"]] = _StoredClip(number, header)
    return found


def _part(media: TalkMedia, clip: _StoredClip | None) -> MediaPart:
    """Returns the frames of a clip that a conversation is about; raises ClipError if there are none."""
    if clip is None:
        raise ClipError("no media", f"{media.path} could not be stored; the report says why")
    header = clip.header
    frames, fps = header["frames"], header["fps"]
    first, stop = 0, frames
    if fps:
        begins = header["start"]
        # The nearest frame: times of annotations are rounded.
        first = 0 if media.start is None else max(round((media.start - begins) * fps), 0)
        stop = frames if media.end is None else min(round((media.end - begins) * fps), frames)
    if stop <= first:
        asked = f"{media.start or 0:g} s to {'the end' if media.end is None else f'{media.end:g} s'}"
        raise ClipError("past the end", f"{media.path} has no frame from {asked}")
    return MediaPart(clip.number, header["media"], first, stop, fps, header["width"], header["height"])
