"""A corpus on disk: ArrayRecord shards, and a manifest with their names, counts and hashes."""

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from ivjax.data_pipelines.store.numbering import Concatenation
from ivjax.data_pipelines.store.records import SCHEMA, ClipError
from ivjax.drafts import draft_of, store
from ivjax.errors import UserError

MANIFEST = "manifest.json"
_OPEN_FILES = 512  # per reader: half of the usual limit of a process
# One record a group, or a random read would decompress a whole group. H.264 does not compress further.
_ONE_BY_ONE = "group_size:1,uncompressed"
# The reader's own threads and read-ahead only help who reads from front to back.
RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"


@dataclass(frozen=True)
class ShardInfo:
    """The manifest's entry of one shard."""

    name: str
    count: int
    bytes: int
    sha256: str


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


class ShardWriter:
    """Writes one shard. The file gets its name only when the block ends without an error.

    `with ShardWriter(path) as shard: shard.write(record)`, afterwards `shard.info` describes it.
    """

    info: ShardInfo

    def __init__(self, path: Path):
        self._path = path
        self._draft = draft_of(path)
        self._count = 0

    def __enter__(self) -> "ShardWriter":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = ArrayRecordWriter(str(self._draft), _ONE_BY_ONE)
        return self

    def write(self, record: bytes) -> None:
        """Appends a record."""
        self._writer.write(record)
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        if kind is not None:
            self._draft.unlink(missing_ok=True)
            return
        # Hashed from the file and not while writing, so that the hash is of what the disk holds.
        size, digest = self._draft.stat().st_size, sha256(self._draft)
        self.info = ShardInfo(self._path.name, self._count, size, digest)
        os.replace(self._draft, self._path)


class Shards:
    """Random access to the raw records of a corpus by number. Thread-safe; can be pickled.

    A damaged record raises ClipError; the other records of its file can still be read.
    """

    def __init__(self, folder: Path, manifest: Manifest):
        self.manifest = manifest
        self._folder = folder
        self._parts = Concatenation(shard.count for shard in manifest.shards)
        self._readers: dict[int, ArrayRecordReader] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._parts)

    def place(self, number: int) -> tuple[str, int]:
        """Returns the shard's name and the record's number inside it."""
        shard, record = self._parts.locate(number)
        return self.manifest.shards[shard].name, record

    def __getitem__(self, number: int) -> bytes:
        shard, record = self._parts.locate(number)
        # A read changes the table of open readers, so threads take turns.
        with self._lock:
            try:
                return self._reader(shard).read([record])[0]
            except (RuntimeError, IndexError) as error:
                self._readers.pop(shard, None)  # a reader that has met damage reads nothing more
                raise ClipError("damaged shard", f"the record cannot be read: {error}") from None

    def close(self) -> None:
        """Closes the files."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _reader(self, shard: int) -> ArrayRecordReader:
        reader = self._readers.pop(shard, None)
        if reader is None:
            path = self._folder / self.manifest.shards[shard].name
            reader = ArrayRecordReader(str(path), RANDOM_ACCESS)
        self._readers[shard] = reader  # the last one is the most recently used
        if len(self._readers) > _OPEN_FILES:
            self._readers.pop(next(iter(self._readers))).close()
        return reader

    def __reduce__(self) -> tuple[type["Shards"], tuple[Path, Manifest]]:
        # Open files cannot be sent to another process; the manifest can, and need not be read again.
        return Shards, (self._folder, self.manifest)

    def __enter__(self) -> "Shards":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_shards(folder: Path) -> Shards:
    """Opens a corpus folder; raises UserError if a file is missing."""
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return Shards(folder, manifest)


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
    """Reads the manifest of a corpus folder."""
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{folder} is not a corpus: it has no {MANIFEST}; build one with `ivjax data build`, or finish it"
        )
    try:
        stored = json.loads(path.read_text())
        shards = tuple(ShardInfo(**shard) for shard in stored["shards"])
        manifest = Manifest(
            shards=shards,
            made_with=stored["made_with"],
            # Corpora of earlier versions have none of these.
            classes=tuple(stored.get("classes", ())),
            labels=stored.get("labels", 0),
            source_digest=stored.get("source_digest", ""),
            libraries=stored.get("libraries", {}),
            dialogues=tuple(ShardInfo(**shard) for shard in stored.get("dialogues", ())),
            schema=stored["schema"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}); build the corpus again"
        ) from None
    if manifest.schema != SCHEMA:
        raise UserError(
            f"{path} has schema {manifest.schema}, this version reads {SCHEMA}; build the corpus again"
        )
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raises UserError if a shard is missing or its size differs from the manifest; reads no data."""
    for shard in manifest.shards:
        path = folder / shard.name
        # Sizes find what a broken copy leaves behind, without reading terabytes at every start.
        found = path.stat().st_size if path.is_file() else None
        if found != shard.bytes:
            state = "is missing" if found is None else f"has {found} bytes, its manifest says {shard.bytes}"
            raise UserError(f"{path} {state}; copy or build it again (`ivjax data validate` checks all)")


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
