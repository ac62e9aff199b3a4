"""Compares two corpora clip by clip, also of different library versions, whose bytes differ."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.store.intact import intact_header
from ivjax.data_pipelines.store.manifest import Manifest
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.store.shards import open_shards
from ivjax.data_pipelines.store.stored_dialogues import StoredDialogues

# What a record says of its clip, by what a difference means.
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "annotations": ("captions", "texts", "conversation", "label", "scores", "attributes", "video", "media"),
    "times": ("start", "end"),
    "pictures": ("frames", "fps", "width", "height", "audio"),
    "bytes": ("bytes", "crc32"),
}
_NAMED = 3  # clips of a kind that a line spells out


@dataclass(frozen=True)
class CorpusComparison:
    """The differences between two corpora.

    Attributes:
        clips: number of clips of each.
        conversations: number of conversations of each.
        same_bytes: whether all shards are equal.
        same_source: whether both were made of the same rows, files and recipe; None: one does not say.
        only: ids that only the first, and only the second has.
        differ: `annotations`, `times`, `pictures` (number, rate, size), `bytes` -> clips of both that differ.
        otherwise: options and libraries with other values, by path.
        same_classes: whether the class names are equal.
        unreadable: number of records that cannot be read.
    """

    clips: tuple[int, int]
    conversations: tuple[int, int]
    same_bytes: bool
    same_source: bool | None
    only: tuple[list[str], list[str]]
    differ: Mapping[str, list[str]]
    otherwise: Mapping[str, tuple[Any, Any]]
    same_classes: bool
    unreadable: int

    @property
    def alike(self) -> bool:
        """Whether both hold the same clips with the same annotations; their bytes may differ."""
        groups = (clips for name, clips in self.differ.items() if name != "bytes")
        return self.same_classes and not any((*self.only, *groups, self.unreadable))

    def as_json(self) -> str:
        """Returns everything as JSON."""
        return json.dumps(asdict(self) | {"alike": self.alike})

    def text(self) -> str:
        """Returns a line for each thing that was compared, the verdict last."""
        source = {True: "the same", False: "different", None: "not known of both"}[self.same_source]
        lines = [
            f"clips: {self.clips[0]:,} and {self.clips[1]:,}",
            f"bytes: {'the same' if self.same_bytes else 'different'}",
            f"source: {source}",
        ]
        if any(self.conversations):
            lines.insert(1, f"conversations: {self.conversations[0]:,} and {self.conversations[1]:,}")
        lines += [f"  {path}: {one} and {other}" for path, (one, other) in self.otherwise.items()]
        lines += ["class names: different"] * (not self.same_classes)
        lines += [f"records that cannot be read: {self.unreadable:,}"] * bool(self.unreadable)
        for which, ids in zip(("first", "second"), self.only, strict=True):
            lines += [f"only in the {which}: {_some(ids)}"] * bool(ids)
        lines += [f"different {name}: {_some(ids)}" for name, ids in self.differ.items() if ids]
        return "\n".join([*lines, _verdict(self)])


def _verdict(found: CorpusComparison) -> str:
    if not found.alike:
        return "the corpora differ"
    if found.same_bytes:
        return "the corpora are equal"
    return "the same clips with the same annotations; only media bytes or their order differ"


def _some(ids: list[str]) -> str:
    return f"{len(ids):,} clips ({', '.join(ids[:_NAMED])}{', ...' if len(ids) > _NAMED else ''})"


def compare(one: Path, other: Path) -> CorpusComparison:
    """Compares the headers of all records by the ids of their clips; decodes nothing."""
    first, bad_first, manifest = _clips(one)
    second, bad_second, against = _clips(other)
    shared = [clip for clip in first if clip in second]
    differ = {
        name: [clip for clip in shared if first[clip][place] != second[clip][place]]
        for place, name in enumerate(_GROUPS)
    }
    known = manifest.source_digest and against.source_digest
    return CorpusComparison(
        clips=(len(first) - manifest.conversations, len(second) - against.conversations),
        conversations=(manifest.conversations, against.conversations),
        same_bytes=manifest.digest == against.digest,
        same_source=manifest.source_digest == against.source_digest if known else None,
        only=([c for c in first if c not in second], [c for c in second if c not in first]),
        differ=differ,
        otherwise=dict(_differences(_options(manifest), _options(against))),
        same_classes=manifest.classes == against.classes,
        unreadable=bad_first + bad_second,
    )


def _clips(folder: Path) -> tuple[dict[str, tuple[bytes, ...]], int, Manifest]:
    """Returns a hash of each group of values by the clip's id, the number of bad records, the manifest."""
    found: dict[str, tuple[bytes, ...]] = {}
    times: Counter[str] = Counter()
    bad = 0
    ids: list[str] = []
    with open_shards(folder) as shards:
        for number in range(len(shards)):
            try:
                header = intact_header(shards[number])
            except ClipError:
                bad += 1
                ids.append("")
                continue
            clip = header["id"]
            ids.append(clip)
            times[clip] += 1
            # Ids should be unique; where they are not, clips are compared in their order.
            found[clip if times[clip] == 1 else f"{clip}#{times[clip]}"] = tuple(
                _hash([header.get(name) for name in names]) for names in _GROUPS.values()
            )
        manifest = shards.manifest
    return found | _conversations(folder, manifest, ids), bad, manifest


def _conversations(folder: Path, manifest: Manifest, ids: list[str]) -> dict[str, tuple[bytes, ...]]:
    """Returns the same of conversations about the clips with these ids."""
    found: dict[str, tuple[bytes, ...]] = {}
    if not manifest.conversations:
        return found
    dialogues = StoredDialogues(str(folder))
    for number in range(len(dialogues)):
        dialogue = dialogues[number]
        said = _hash([[turn.role, turn.text] for turn in dialogue.turns] + [dict(dialogue.attributes)])
        about = _hash([[ids[part.record], part.first, part.stop] for part in dialogue.media])
        found[f"conversation {dialogue.id}"] = (said, about, b"", b"")
    dialogues.close()
    return found


def _hash(values: list[Any]) -> bytes:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).digest()


def _options(manifest: Manifest) -> dict[str, Any]:
    # `corpus` is a hash of the rows with their paths, which differ between machines.
    made_with = {name: value for name, value in manifest.made_with.items() if name != "corpus"}
    return made_with | {"libraries": dict(manifest.libraries)}


def _differences(one: Any, other: Any, path: str = "") -> list[tuple[str, tuple[Any, Any]]]:
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted(one.keys() | other.keys())
        found = (_differences(one.get(n), other.get(n), f"{path}.{n}" if path else n) for n in names)
        return [difference for differences in found for difference in differences]
    return [] if one == other else [(path, (one, other))]
