"""Random access to the clips of a corpus folder, written by `ivjax data build` or by TFDS."""

import json
from pathlib import Path
from typing import Protocol

from ivjax.data_pipelines.store.intact import checked_clip
from ivjax.data_pipelines.store.manifest import MANIFEST, read_manifest
from ivjax.data_pipelines.store.records import Clip
from ivjax.data_pipelines.store.shards import open_shards
from ivjax.errors import UserError

CLASSES_FILE = "classes.json"  # beside the shards of TFDS, which have no manifest
_TFDS_INFO = "dataset_info.json"  # what a TFDS builder leaves in its folder


class Clips(Protocol):
    """Random access to the clips of one corpus. Can be pickled, so workers need not look for its files."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Clip: ...

    def place(self, number: int) -> tuple[str, int]: ...

    def digest(self) -> str: ...

    def close(self) -> None: ...


class ShardClips:
    """The clips of a corpus folder that has a manifest."""

    def __init__(self, folder: Path):
        self._shards = open_shards(folder)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, number: int) -> Clip:
        return checked_clip(self._shards[number])

    def place(self, number: int) -> tuple[str, int]:
        """Returns the shard's name and the record's number of a clip."""
        return self._shards.place(number)

    def digest(self) -> str:
        """Returns a hash that changes with the corpus."""
        return self._shards.manifest.digest

    def close(self) -> None:
        """Closes the files."""
        self._shards.close()


def is_corpus(path: str) -> bool:
    """Whether `open_clips` can open a path."""
    folder = Path(path).expanduser()
    return any((folder / name).is_file() for name in (MANIFEST, _TFDS_INFO))


def class_names(folder: str) -> tuple[str, ...]:
    """Returns the class names of a corpus in the order of their numbers; none if its labels are numbers."""
    path = Path(folder).expanduser()
    return _names_of_tfds(path) if _is_of_tfds(path) else read_manifest(path).classes


def label_count(folder: str) -> int:
    """Returns one more than the highest class number of a corpus; 0 if it has no labels or does not say."""
    path = Path(folder).expanduser()
    if _is_of_tfds(path):
        return len(_names_of_tfds(path))
    manifest = read_manifest(path)
    return max(manifest.labels, len(manifest.classes))


def open_clips(folder: str) -> Clips:
    """Opens a folder that `ivjax data build` or a TFDS builder has written."""
    path = Path(folder).expanduser()
    if _is_of_tfds(path):
        # TFDS takes seconds to import, and most corpora do not need it.
        try:
            from ivjax.data_pipelines.store.tfds_clips import TfdsClips
        except ImportError as error:
            raise UserError(f"{folder} was made by TFDS: {error}") from None
        return TfdsClips(path)
    return ShardClips(path)


def _is_of_tfds(path: Path) -> bool:
    """Whether a TFDS builder has written a corpus: a folder with a manifest is ours."""
    return not (path / MANIFEST).is_file() and (path / _TFDS_INFO).is_file()


def _names_of_tfds(path: Path) -> tuple[str, ...]:
    names = path / CLASSES_FILE
    return tuple(json.loads(names.read_text("utf-8"))) if names.is_file() else ()
