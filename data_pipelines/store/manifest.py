"""The manifest of a corpus: names, counts and hashes of its shards, and how they were made."""

import hashlib
import json
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.store.records import SCHEMA
from ivjax.drafts import store
from ivjax.errors import UserError

MANIFEST = "manifest.json"
_MOST_RECORDS = 2**32  # of a shard; the number of all records must stay one that Python can take a length of
_MOST_BYTES = 2**50  # of a shard
_MOST_CLASSES = 2**31 - 1  # labels are int32 in a batch
# What corpora of earlier versions do not say: of all, and of each shard.
_ABSENT: Mapping[str, Any] = {
    "classes": [],
    "labels": 0,
    "source_digest": "",
    "libraries": {},
    "dialogues": [],
}
_ABSENT_OF_SHARDS = {"proof": ""}


@dataclass(frozen=True)
class ShardInfo:
    """The manifest's entry of one shard.

    Attributes:
        name: its file, in the folder of the manifest.
        count: number of its records.
        bytes: size of the file.
        sha256: hash of the whole file.
        proof: what `proof_of` returns, which each start compares; empty in corpora of earlier versions.
    """

    name: str
    count: int
    bytes: int
    sha256: str
    proof: str = ""


@dataclass(frozen=True)
class Manifest:
    """The manifest of a corpus.

    Attributes:
        shards: the shards in order.
        made_with: the options that it was made with.
        classes: class names in the order of the labels' numbers; empty: none.
        labels: one more than the highest class number; 0: there is none, or it is not known.
        source_digest: hash of what it was made of: rows, sizes of their files, recipe; empty: unknown.
        libraries: versions of the libraries that decoded and encoded, on which the shards' bytes depend.
        dialogues: the shards of conversations about the clips, in order.
        schema: that of the records.
    """

    shards: tuple[ShardInfo, ...]
    made_with: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    labels: int = 0
    source_digest: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    dialogues: tuple[ShardInfo, ...] = ()
    schema: int = SCHEMA

    @property
    def clips(self) -> int:
        """Number of records in all shards."""
        return sum(shard.count for shard in self.shards)

    @property
    def conversations(self) -> int:
        """Number of conversations about the clips."""
        return sum(shard.count for shard in self.dialogues)

    @property
    def digest(self) -> str:
        """Hash over the bytes of all shards."""
        every = (*self.shards, *self.dialogues)
        return hashlib.sha256("".join(shard.sha256 for shard in every).encode()).hexdigest()

    def digest_lines(self) -> list[str]:
        """Returns both digests, each with what it covers, as lines."""
        source = self.source_digest or "unknown, an earlier version built it"
        return [f"digest of the bytes:  {self.digest}", f"digest of the source: {source}"]


def write_manifest(
    folder: Path, shards: Iterable[ShardInfo], made_with: Mapping[str, Any], classes: Iterable[str] = ()
) -> Manifest:
    """Stores the manifest of shards atomically."""
    manifest = Manifest(tuple(shards), dict(made_with), tuple(classes))
    store_manifest(folder, manifest)
    return manifest


def store_manifest(folder: Path, manifest: Manifest) -> None:
    """Stores the manifest atomically."""
    # Its number of clips and its digest are there for people; they are computed anew when it is read.
    read_by_people = {"clips": manifest.clips, "digest": manifest.digest}
    store(folder / MANIFEST, json.dumps(asdict(manifest) | read_by_people, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a corpus folder; raises UserError if it is missing or a value of it cannot be."""
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{folder} is not a corpus: it has no {MANIFEST}; build one with `ivjax data build`, or finish it"
        )
    try:
        manifest = _manifest(json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); check its permissions and its disk"
        ) from None
    # Deeply nested JSON ends in a RecursionError.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); copy it again, or build the corpus again") from None
    if manifest.schema != SCHEMA:
        raise UserError(
            f"{path} has schema {manifest.schema}, this version reads {SCHEMA}; build the corpus again"
        )
    return manifest


def _manifest(stored: Any) -> Manifest:
    """Returns the manifest of a JSON value; raises ValueError for one that cannot be."""
    fields = _Fields(stored, "", _ABSENT)
    return Manifest(
        shards=_shards(fields, "shards"),
        made_with=fields.take("made_with", dict, "an object"),
        classes=fields.texts("classes"),
        labels=fields.number("labels", _MOST_CLASSES),
        source_digest=fields.take("source_digest", str, "a text"),
        libraries=fields.take("libraries", dict, "an object"),
        dialogues=_shards(fields, "dialogues"),
        schema=fields.number("schema", _MOST_CLASSES),
    )


def _shards(manifest: "_Fields", name: str) -> tuple[ShardInfo, ...]:
    entries = manifest.take(name, list, "a list")
    return tuple(shard_info(entry, f"{name}.{place}.") for place, entry in enumerate(entries))


def shard_info(stored: Any, path: str = "") -> ShardInfo:
    """Returns the entry of a shard that a JSON value is; raises ValueError, with `path` before its fields."""
    fields = _Fields(stored, path, _ABSENT_OF_SHARDS)
    return ShardInfo(
        name=fields.file_name("name"),
        count=fields.number("count", _MOST_RECORDS),
        bytes=fields.number("bytes", _MOST_BYTES),
        sha256=fields.hash("sha256"),
        proof=fields.hash("proof") if fields.take("proof", str, "a text") else "",
    )


class _Fields:
    """The fields of a JSON object, each of which is checked when it is taken; they raise ValueError.

    Args:
        stored: the object, or whatever stands in its place.
        path: what goes before the names of its fields in messages.
        absent: the values of fields that it may leave out.
    """

    def __init__(self, stored: Any, path: str, absent: Mapping[str, Any]):
        if not isinstance(stored, dict):
            raise ValueError(f"{path.removesuffix('.') or 'it'} is {reprlib.repr(stored)}, not an object")
        self._values = {**absent, **stored}
        self._path = path

    def take(self, name: str, kind: type, called: str) -> Any:
        """Returns a field of a type."""
        if name not in self._values:
            raise ValueError(f"it has no {self._path}{name}")
        # Not isinstance, for which true is a whole number.
        if type(self._values[name]) is not kind:
            raise self._wrong(name, called)
        return self._values[name]

    def number(self, name: str, most: int) -> int:
        """Returns a whole number from 0 to `most`."""
        called = f"a whole number from 0 to {most}"
        value = self.take(name, int, called)
        if not 0 <= value <= most:
            raise self._wrong(name, called)
        return int(value)

    def hash(self, name: str) -> str:
        """Returns a SHA-256."""
        called = "a SHA-256 in 64 digits"
        value = self.take(name, str, called)
        if not re.fullmatch("[0-9a-f]{64}", value):
            raise self._wrong(name, called)
        return str(value)

    def file_name(self, name: str) -> str:
        """Returns the name of a file beside the manifest."""
        called = "the name of a file beside it"
        value = self.take(name, str, called)
        # A manifest from anybody must not lead out of its folder.
        if value in ("", ".", "..") or "/" in value or not value.isprintable():
            raise self._wrong(name, called)
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Returns a list of texts."""
        values = self.take(name, list, "a list")
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(name, "a list of texts")
        return tuple(values)

    def _wrong(self, name: str, called: str) -> ValueError:
        return ValueError(f"{self._path}{name} is {reprlib.repr(self._values[name])}, not {called}")
