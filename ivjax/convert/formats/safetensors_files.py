"""Reads the tensors of .safetensors files one at a time."""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ivjax.convert.formats.tensors import Listed
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
# A damaged length must not make this program allocate gigabytes, and entries take ten times as much in memory
# as in the file. Real headers are below a megabyte.
_LONGEST_HEADER = 2**24
_MOST_AXES = 64  # numpy's arrays have no more


@dataclass(frozen=True)
class FileRange:
    """The place of a tensor in a .safetensors file: bytes [start, end) of `path`."""

    path: Path
    dtype: Any
    shape: tuple[int, ...]
    start: int
    end: int


class SafeTensors(Listed[FileRange]):
    """Tensors of one .safetensors file."""

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
            raise unreadable(entry.path, error) from None
        # The size was checked when the file was opened, but it may still be copied over or downloaded.
        if len(data) < end - start:
            raise UserError(f"{entry.path} was cut short while it was read: it ends before {name} does")
        return np.frombuffer(data, entry.dtype)


def open_safetensors(path: Path) -> SafeTensors:
    """Returns the tensors of one .safetensors file."""
    return SafeTensors(*_read_header(path))


def unreadable(path: Path, error: OSError) -> UserError:
    """Returns what to say of a file that the system does not give out."""
    where, reason = error.filename or path, error.strerror or error
    return UserError(f"{where} cannot be read ({reason}); check its permissions and its disk")


def _read_header(path: Path) -> tuple[dict[str, FileRange], dict[str, str]]:
    """Returns the entries of a .safetensors file, checked against the file's size, and its metadata."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(_LONGEST_HEADER, size - 8):
            raise UserError(
                f"{path} is no whole .safetensors file: its header is cut short, or too long; fetch it again"
            )
        text = file.read(length)
    try:
        header = json.loads(text)
        said = {str(key): str(value) for key, value in (header.pop("__metadata__", None) or {}).items()}
        return {name: _entry(path, name, facts, 8 + length, size) for name, facts in header.items()}, said
    # A deeply nested header ends in a RecursionError.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"the header of {path} is damaged ({type(error).__name__}: {error})") from None


def _entry(path: Path, name: str, facts: Mapping[str, Any], offset: int, size: int) -> FileRange:
    if facts["dtype"] not in DTYPES:
        raise UserError(
            f"{path}: {name} has dtype {facts['dtype']}, which cannot be read; give {', '.join(DTYPES)}"
        )
    dtype, shape = np.dtype(DTYPES[facts["dtype"]]), tuple(facts["shape"])
    # Not isinstance, for which true is a whole number.
    if any(type(number) is not int for number in (*shape, *facts["data_offsets"])):
        raise TypeError(f"the shape or the place of {name} is not in whole numbers")
    start, end = (offset + place for place in facts["data_offsets"])
    # A header from anybody must not lead outside of the data.
    if start < offset or any(axis < 0 for axis in shape) or len(shape) > _MOST_AXES:
        raise ValueError(f"{name} starts before the data, or has a negative axis or too many of them")
    if end - start != dtype.itemsize * math.prod(shape):
        raise UserError(f"{path}: {name} of shape {shape} does not fit its {end - start} bytes")
    if end > size:
        raise UserError(f"{path} is truncated: it ends before {name} does; fetch it again")
    return FileRange(path, dtype, shape, start, end)
