"""The shards of a corpus in a bucket, read from the copies that a cache makes of them."""

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader

from ivjax.data_pipelines.store.cache_folder import cached_file
from ivjax.data_pipelines.store.manifest import MANIFEST, BucketShard, Manifest, parse_manifest
from ivjax.data_pipelines.store.numbering import spread
from ivjax.data_pipelines.store.shard_cache import ShardCache
from ivjax.data_pipelines.store.shard_caching import ShardCaching
from ivjax.data_pipelines.store.shard_pieces import shard_pieces
from ivjax.data_pipelines.store.shards import Shards, close_reader
from ivjax.errors import UserError
from ivjax.experiment.bucket_files import read_text, sizes_in


class CopiedShards(Shards):
    """Random access to the raw records of a corpus in a bucket. Thread-safe; can be pickled.

    Each shard is copied to this machine before it is read. Pickled ones copy nothing: they read the copies
    that the process keeps which has sent them.

    Args:
        address: the corpus.
        manifest: its manifest.
        folder: that of the cache.
        cache: copies shards; None: they are there.
        owned: whether to close the cache, too.
    """

    def __init__(
        self,
        address: str,
        manifest: Manifest,
        folder: Path,
        cache: ShardCache | None = None,
        owned: bool = False,
    ):
        super().__init__(folder, manifest)
        self._address, self._cache, self._owned = address, cache, owned
        self._kept = contextlib.ExitStack()
        self._inodes: dict[int, int] = {}

    def __getitem__(self, number: int) -> bytes:
        if self._cache is None:
            return super().__getitem__(number)
        with self._cache.reading(self.remote(number)):
            return super().__getitem__(number)

    def remote(self, number: int) -> BucketShard:
        """Returns the shard of a record."""
        return self._remote(self.numbering.locate(number)[0])

    def samples(self, count: int) -> Sequence[int]:
        """Returns the numbers of so many records of one shard: each shard more would have to be copied."""
        filled = [number for number, shard in enumerate(self.manifest.shards) if shard.count]
        if not filled:
            return ()
        there = (number for number in filled if self._path(number).is_file())
        smallest = min(filled, key=lambda number: self.manifest.shards[number].bytes)
        return spread(self.numbering.range(next(there, smallest)), count)

    def keep_all(self) -> None:
        """Copies all shards, and keeps them until this is closed."""
        for number in range(self.numbering.groups):
            if self._cache is not None:
                self._kept.enter_context(self._cache.reading(self._remote(number)))

    def close(self) -> None:
        """Closes the files, and the cache if it is owned."""
        super().close()
        self._kept.close()
        if self._owned and self._cache is not None:
            self._cache.close()

    def _remote(self, shard: int) -> BucketShard:
        info = self.manifest.shards[shard]
        return BucketShard(f"{self._address}/{info.name}", info)

    def _path(self, shard: int) -> Path:
        return cached_file(self._folder, self.manifest.shards[shard])

    def _reader(self, shard: int) -> ArrayRecordReader:
        # A shard that was removed and copied again is another file; the one that was opened is empty now.
        inode = self._path(shard).stat().st_ino
        if self._inodes.get(shard) != inode and (reader := self._readers.pop(shard, None)):
            close_reader(reader)
        self._inodes[shard] = inode
        return super()._reader(shard)

    def __reduce__(self) -> tuple[type["CopiedShards"], tuple[str, Manifest, Path]]:
        return CopiedShards, (self._address, self.manifest, self._folder)


def open_in_bucket(address: str, manifest: Manifest, cache: ShardCache | None = None) -> CopiedShards:
    """Opens shards of a corpus in a bucket; raises UserError if one is missing or of another size.

    Without a cache it opens one for itself, of the default options.
    """
    address = address.rstrip("/")
    sizes = _sizes(address)
    for shard in manifest.shards:
        size = sizes.get(shard.name)
        # Its content is compared when it comes.
        if size != shard.bytes:
            state = "is missing" if size is None else f"has {size} bytes, its manifest says {shard.bytes}"
            raise UserError(f"{address}/{shard.name} {state}; copy it there again")
    if cache is not None:
        return CopiedShards(address, manifest, cache.folder, cache)
    # Only an experiment knows where its options stand in it, so their class is named and no path.
    cache = open_cache(ShardCaching(), ShardCaching.__name__)
    return CopiedShards(address, manifest, cache.folder, cache, owned=True)


def open_cache(options: ShardCaching, path: str) -> ShardCache:
    """Opens the cache of some options, which stand at `path`."""
    return ShardCache(options.place(), options.gib, shard_pieces, path)


def manifest_in_bucket(address: str) -> Manifest:
    """Returns the manifest of a corpus in a bucket, as it is when this process first asks for it."""
    manifest = _manifest(address.rstrip("/"))
    if manifest is None:
        raise UserError(
            f"{address} is not a corpus: it has no {MANIFEST}; copy one there that `ivjax data build` has "
            "made, or mount one that TFDS has made"
        )
    return manifest


def is_bucket_corpus(address: str) -> bool:
    """Whether a corpus lies at the address of a folder in a bucket."""
    return _manifest(address.rstrip("/")) is not None


# Both once for each process: a run that opens its eval corpora again must not end over a request that fails.
@functools.cache
def _sizes(address: str) -> dict[str, int]:
    return sizes_in(address)


@functools.cache
def _manifest(address: str) -> Manifest | None:
    path = f"{address}/{MANIFEST}"
    text = read_text(path)
    return None if text is None else parse_manifest(text, path)
