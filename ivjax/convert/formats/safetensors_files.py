"""Reads the tensors of a weight file one at a time: .safetensors, sharded .safetensors, and torch files.

Torch is not needed, and nothing that a pickle asks for is ever run: see `pickles`.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ivjax.convert.formats.pickles import open_torch
from ivjax.convert.formats.tensors import Listed, Tensors
from ivjax.errors import UserError

DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
# A damaged length must not make this program allocate gigabytes; real headers have a few megabytes.
_LONGEST_HEADER = 2**28


@dataclass(frozen=True)
class FileRange:
    """The place of a tensor in a .safetensors file: bytes [start, end) of `path`."""

    path: Path
    dtype: Any
    shape: tuple[int, ...]
    start: int
    end: int


class SafeTensors(Listed[FileRange]):
    """Tensors of one .safetensors file or of several."""

    def __init__(self, entries: Mapping[str, FileRange], metadata: Mapping[str, str]):
        super().__init__(entries)
        self.metadata = metadata

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._entries[name]
        return self._read(name, entry.start, entry.end).reshape(entry.shape)

    def layer(self, name: str, number: int) -> np.ndarray:
        entry = self._entries[name]
        size = (entry.end - entry.start) // entry.shape[0]
        start = entry.start + number * size
        return self._read(name, start, start + size).reshape(entry.shape[1:])

    def _read(self, name: str, start: int, end: int) -> np.ndarray:
        """Returns the elements in bytes [start, end) of the tensor's file."""
        entry = self._entries[name]
        try:
            with entry.path.open("rb") as file:
                file.seek(start)
                data = file.read(end - start)
        except OSError as error:
            raise _unreadable(entry.path, error) from None
        # The size was checked when the file was opened, but it may still be copied over or downloaded.
        if len(data) < end - start:
            raise UserError(f"{entry.path} was cut short while it was read: it ends before {name} does")
        return np.frombuffer(data, entry.dtype)


def open_tensors(path: Path) -> Tensors:
    """Returns the tensors of a weight file, an index of shards, or a folder that holds one of these.

    FILE.safetensors may also be stored as shards, which FILE.safetensors.index.json lists.
    """
    try:
        return _opened(path.expanduser())
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> UserError:
    where, reason = error.filename or path, error.strerror or error
    return UserError(f"{where} cannot be read ({reason}); check its permissions and its disk")


def _opened(path: Path) -> Tensors:
    if path.is_dir():
        path = _file_of(path)
    # So a user may name FILE.safetensors whether or not it was too large for one file.
    if not path.exists() and index_of(path).is_file():
        path = index_of(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a .safetensors, .pt, .pth or .bin file")
    if path.name.endswith(".index.json"):
        return _sharded(path)
    if path.suffix == ".safetensors":
        return SafeTensors(*_read_header(path))
    return open_torch(path)


def index_of(path: Path) -> Path:
    """Returns the index of the shards that FILE.safetensors may be split into."""
    return path.with_name(f"{path.name}.index.json")


def _file_of(folder: Path) -> Path:
    indices = sorted(folder.glob("*.safetensors.index.json"))
    files = sorted(f for f in folder.iterdir() if f.suffix in (".safetensors", ".pt", ".pth", ".bin"))
    # The index first: beside it lie its shards, none of which is the whole.
    if len(indices) == 1:
        return indices[0]
    if len(files) == 1:
        return files[0]
    found = ", ".join(f.name for f in [*indices, *files]) or "no weight file"
    raise UserError(f"{folder} holds {found}; name the one file to read")


def _sharded(index: Path) -> SafeTensors:
    try:
        places: dict[str, str] = json.loads(index.read_text())["weight_map"]
        files = sorted(set(places.values()))
        if not all(isinstance(file, str) for file in files):
            raise TypeError("the name of a shard is not a string")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is no index of shards ({type(error).__name__}: {error})") from None
    shards = {name: _read_header(_shard(index, name)) for name in files}
    missing = sorted(name for name, shard in places.items() if name not in shards[shard][0])
    if missing:
        raise UserError(f"{places[missing[0]]} lacks {missing[0]}, which {index.name} says it holds")
    # A tensor that the index does not name would silently be left out.
    extra = sorted(name for entries, _ in shards.values() for name in entries if name not in places)
    if extra:
        raise UserError(
            f"{index.name} does not name {extra[0]}, which is in one of its shards; write the index again"
        )
    metadata = {key: value for _, said in shards.values() for key, value in said.items()}
    return SafeTensors({name: shards[shard][0][name] for name, shard in places.items()}, metadata)


def _shard(index: Path, name: str) -> Path:
    path = index.parent / name
    if not path.is_file():
        raise UserError(f"{index.name} names {name}, which is missing beside it; fetch that shard")
    return path


def _read_header(path: Path) -> tuple[dict[str, FileRange], dict[str, str]]:
    """Returns the entries of a .safetensors file, checked against the file's size, and its metadata."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(_LONGEST_HEADER, size - 8):
            raise UserError(f"{path} is no whole .safetensors file: its header is cut short; fetch it again")
        text = file.read(length)
    try:
        header = json.loads(text)
        said = {str(key): str(value) for key, value in (header.pop("__metadata__", None) or {}).items()}
        return {name: _entry(path, name, facts, 8 + length, size) for name, facts in header.items()}, said
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the header of {path} is damaged ({type(error).__name__}: {error})") from None


def _entry(path: Path, name: str, facts: Mapping[str, Any], offset: int, size: int) -> FileRange:
    if facts["dtype"] not in DTYPES:
        raise UserError(
            f"{path}: {name} has dtype {facts['dtype']}, which cannot be read; give {', '.join(DTYPES)}"
        )
    dtype, shape = np.dtype(DTYPES[facts["dtype"]]), tuple(facts["shape"])
    start, end = (offset + place for place in facts["data_offsets"])
    # A header from anybody must not lead outside of the data.
    if start < offset or any(axis < 0 for axis in shape):
        raise ValueError(f"{name} starts before the data or has a negative axis")
    if end - start != dtype.itemsize * math.prod(shape):
        raise UserError(f"{path}: {name} of shape {shape} does not fit its {end - start} bytes")
    if end > size:
        raise UserError(f"{path} is truncated: it ends before {name} does; fetch it again")
    return FileRange(path, dtype, shape, start, end)
