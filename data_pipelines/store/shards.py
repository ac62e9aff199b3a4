"""The ArrayRecord shards of a corpus: written, compared with their manifest, and read by number."""

import contextlib
import hashlib
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from ivjax.data_pipelines.store.manifest import Manifest, ShardInfo, read_manifest
from ivjax.data_pipelines.store.numbering import Concatenation
from ivjax.data_pipelines.store.records import ClipError
from ivjax.drafts import draft_of
from ivjax.errors import UserError

_OPEN_FILES = 512  # per reader: half of the usual limit of a process
# One record a group, or a random read would decompress a whole group. H.264 does not compress further.
_ONE_BY_ONE = "group_size:1,uncompressed"
# The reader's own threads and read-ahead only help who reads from front to back.
RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"
# An ArrayRecord file begins with a signature and the size and hash of its first record. Its last 64 KiB begin
# with the place where the records end.
_FIRST_BYTES = 104
_LAST_BLOCK, _LAST_BYTES = 64 << 10, 256
_CHECKS_AT_ONCE = 32  # on a network disk a start mostly waits for answers


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
        self.info = ShardInfo(self._path.name, self._count, size, digest, proof_of(self._draft, self._count))
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
            _close(reader)
        self._readers.clear()

    def _reader(self, shard: int) -> ArrayRecordReader:
        reader = self._readers.pop(shard, None)
        if reader is None:
            path = self._folder / self.manifest.shards[shard].name
            reader = ArrayRecordReader(str(path), RANDOM_ACCESS)
        self._readers[shard] = reader  # the last one is the most recently used
        if len(self._readers) > _OPEN_FILES:
            _close(self._readers.pop(next(iter(self._readers))))
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


def _close(reader: ArrayRecordReader) -> None:
    # One that has met damage says so once more.
    with contextlib.suppress(RuntimeError):
        reader.close()


def open_shards(folder: Path) -> Shards:
    """Opens a corpus folder; raises UserError if a file is not the one that the manifest names."""
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return Shards(folder, manifest)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raises UserError if a shard is listed twice, is missing, or is not the manifest's; reads little."""
    names = Counter(shard.name for shard in manifest.shards)
    if len(names) < len(manifest.shards):
        twice = names.most_common(1)[0][0]
        raise UserError(f"the manifest of {folder} names {twice} more than once; copy it or build it again")
    paths = [folder / shard.name for shard in manifest.shards]
    with ThreadPoolExecutor(_CHECKS_AT_ONCE, "ivjax-shards") as pool:
        for path, state in zip(paths, pool.map(difference, paths, manifest.shards), strict=True):
            if state is not None:
                pool.shutdown(cancel_futures=True)
                raise UserError(f"{path} {state}; copy or build it again (`ivjax data validate` checks all)")


def difference(path: Path, shard: ShardInfo) -> str | None:
    """Returns how a file differs from the manifest's entry of it; None if it seems to be the same.

    Finds what a broken copy leaves behind, and a shard in another's place. A changed byte in a record is
    found when it is read, and makes one broken clip: each start would have to read terabytes to find it.
    """
    try:
        found = path.stat().st_size if path.is_file() else None
        if found is None:
            return "is missing"
        if found != shard.bytes:
            return f"has {found} bytes, its manifest says {shard.bytes}"
        if shard.proof and proof_of(path, shard.count) != shard.proof:
            return "is another shard than the one that its manifest describes"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def proof_of(path: Path, count: int) -> str:
    """Returns a hash of what tells a shard from others: count, first record, and where its records end."""
    with path.open("rb") as file:
        digest = hashlib.sha256(f"{count} ".encode() + file.read(_FIRST_BYTES))
        file.seek(max(path.stat().st_size - _LAST_BLOCK, 0))
        digest.update(file.read(_LAST_BYTES))
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
