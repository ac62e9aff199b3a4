"""Random access to the clips of a corpus folder, written by `ivjax data build` or by TFDS."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ivjax.data_pipelines.store.bucket_corpus import is_bucket_corpus, manifest_in_bucket, open_in_bucket
from ivjax.data_pipelines.store.intact import checked_clip
from ivjax.data_pipelines.store.manifest import MANIFEST, BucketShard, read_manifest
from ivjax.data_pipelines.store.numbering import Concatenation
from ivjax.data_pipelines.store.records import Clip
from ivjax.data_pipelines.store.shard_cache import ShardCache
from ivjax.data_pipelines.store.shards import Shards, open_shards
from ivjax.errors import UserError
from ivjax.experiment.bucket_files import is_bucket

CLASSES_FILE = "classes.json"  # beside the shards of TFDS, which have no manifest
_TFDS_INFO = "dataset_info.json"  # what a TFDS builder leaves in its folder


class Clips(Protocol):
    """Random access to the clips of one corpus. Can be pickled, so workers need not look for its files."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Clip: ...

    @property
    def numbering(self) -> Concatenation:
        """The numbers of the clips, by shard."""
        ...

    def place(self, number: int) -> tuple[str, int]: ...

    def remote(self, number: int) -> BucketShard | None:
        """Returns the shard of a clip, if it lies in a bucket."""
        ...

    def samples(self, count: int) -> Sequence[int]:
        """Returns about so many numbers of clips that are quick to read."""
        ...

    def digest(self) -> str: ...

    def close(self) -> None: ...


class ShardClips:
    """The clips of a corpus that has a manifest."""

    def __init__(self, shards: Shards):
        self._shards = shards

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, number: int) -> Clip:
        return checked_clip(self._shards[number])

    def place(self, number: int) -> tuple[str, int]:
        """Returns the shard's name and the record's number of a clip."""
        return self._shards.place(number)

    @property
    def numbering(self) -> Concatenation:
        """The numbers of the clips, by shard."""
        return self._shards.numbering

    def remote(self, number: int) -> BucketShard | None:
        """Returns the shard of a clip, if it lies in a bucket."""
        return self._shards.remote(number)

    def samples(self, count: int) -> Sequence[int]:
        """Returns about so many numbers of clips that are quick to read."""
        return self._shards.samples(count)

    def digest(self) -> str:
        """Returns a hash that changes with the corpus."""
        return self._shards.manifest.digest

    def close(self) -> None:
        """Closes the files."""
        self._shards.close()


def is_corpus(path: str) -> bool:
    """Whether `open_clips` can open a path."""
    if is_bucket(path):
        return is_bucket_corpus(path)
    folder = Path(path).expanduser()
    return any((folder / name).is_file() for name in (MANIFEST, _TFDS_INFO))


def class_names(folder: str) -> tuple[str, ...]:
    """Returns the class names of a corpus in the order of their numbers; none if its labels are numbers."""
    if is_bucket(folder):
        return manifest_in_bucket(folder).classes
    path = Path(folder).expanduser()
    return _names_of_tfds(path) if _is_of_tfds(path) else read_manifest(path).classes


def label_count(folder: str) -> int:
    """Returns one more than the highest class number of a corpus; 0 if it has no labels or does not say."""
    path = Path(folder).expanduser()
    if not is_bucket(folder) and _is_of_tfds(path):
        return len(_names_of_tfds(path))
    manifest = manifest_in_bucket(folder) if is_bucket(folder) else read_manifest(path)
    return max(manifest.labels, len(manifest.classes))


def open_clips(folder: str, cache: ShardCache | None = None) -> Clips:
    """Opens a corpus: a folder that `ivjax data build` or a TFDS builder has written, or one in a bucket.

    Shards in a bucket come through a cache: without one, through a default one of their own.
    """
    if is_bucket(folder):
        return ShardClips(open_in_bucket(folder, manifest_in_bucket(folder), cache))
    path = Path(folder).expanduser()
    if _is_of_tfds(path):
        # TFDS takes seconds to import, and most corpora do not need it.
        try:
            from ivjax.data_pipelines.store.tfds_clips import TfdsClips
        except ImportError as error:
            raise UserError(f"{folder} was made by TFDS: {error}") from None
        return TfdsClips(path)
    return ShardClips(open_shards(path))


def _is_of_tfds(path: Path) -> bool:
    """Whether a TFDS builder has written a corpus: a folder with a manifest is ours."""
    return not (path / MANIFEST).is_file() and (path / _TFDS_INFO).is_file()


def _names_of_tfds(path: Path) -> tuple[str, ...]:
    names = path / CLASSES_FILE
    return tuple(json.loads(names.read_text("utf-8"))) if names.is_file() else ()
