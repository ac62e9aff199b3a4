"""Writes tensors as .safetensors, whole or in shards, with no more than one piece of a tensor in memory.

Files are hidden drafts until all of them are whole.
"""

import contextlib
import glob
import json
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ivjax.convert.formats.opening import index_of
from ivjax.convert.formats.safetensors_files import DTYPES
from ivjax.convert.formats.tensors import LazyTensor
from ivjax.drafts import draft_of
from ivjax.errors import UserError

SHARD_BYTES = 4 * 2**30
Advance = Callable[[], None]  # called after each tensor that is written

_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}


def bytes_of(text: str) -> int:
    """Returns the bytes of a size such as 500MB, 4GiB or 4096."""
    # As many digits as a float can hold.
    found = re.fullmatch(r"(\d{1,18}(?:\.\d+)?) *([A-Za-z]*)", text)
    if not found or found[2] not in _UNITS:
        raise UserError(f"{text!r} is no size; write it like 500MB or 4GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def no_progress() -> None:
    """The default of `advance`, which is called after each tensor."""


def write_safetensors(
    path: Path,
    tensors: Sequence[LazyTensor],
    metadata: Mapping[str, str],
    shard_bytes: int = SHARD_BYTES,
    advance: Advance = no_progress,
) -> list[Path]:
    """Writes FILE.safetensors, or if it would be larger than `shard_bytes`, shards and their index.

    Returns the files that were written; the last one is what the tensors are opened by.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"{path} must end in .safetensors")
    if shard_bytes < 1:
        raise UserError(f"a shard of {shard_bytes} bytes holds nothing; give at least 1")
    shards = _shards(tensors, shard_bytes)
    files = _names(path, len(shards))
    total = {"total_size": sum(tensor.nbytes for tensor in tensors)}
    places = {t.name: file.name for file, shard in zip(files, shards, strict=True) for t in shard}
    index = [index_of(path)] if len(shards) > 1 else []
    with new_files([*files, *index], path) as drafts:
        for file, shard in zip(files, shards, strict=True):
            _write_one(drafts[file], shard, metadata, advance)
        for file in index:
            drafts[file].write_text(json.dumps({"metadata": total, "weight_map": places}, indent=1))
    return [*files, *index]


@contextlib.contextmanager
def new_files(files: Sequence[Path], path: Path) -> Iterator[dict[Path, Path]]:
    """Yields a draft for each file that is written for `path`; all take their names together at the end."""
    _refuse_to_replace(path)
    drafts = {file: draft_of(file) for file in files}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield drafts
        # In order, so that the index takes its name after its shards.
        for file, draft in drafts.items():
            os.replace(draft, file)
    except OSError as error:
        _remove(drafts)
        reason = error.strerror or error
        raise UserError(f"{path} cannot be written: {reason}; make room or choose another folder") from None
    finally:
        _remove(drafts.values())


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        with contextlib.suppress(OSError):  # the folder may be missing, and with it the file
            file.unlink(missing_ok=True)


def _refuse_to_replace(path: Path) -> None:
    # Shards of an earlier conversion into another number of files would be mistaken for part of this one.
    shards = path.parent.glob(f"{glob.escape(path.stem)}-*-of-*{path.suffix}") if path.parent.is_dir() else []
    for file in (path, index_of(path), *shards):
        if file.exists():
            raise UserError(f"{file} exists already; remove it or choose another name")


def _shards(tensors: Sequence[LazyTensor], shard_bytes: int) -> list[list[LazyTensor]]:
    """Returns tensors in shards of at most `shard_bytes`; a larger tensor has a shard of its own."""
    shards: list[list[LazyTensor]] = [[]]
    room = shard_bytes
    for tensor in tensors:
        if shards[-1] and tensor.nbytes > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(tensor)
        room -= tensor.nbytes
    return shards


def _names(path: Path, count: int) -> list[Path]:
    if count == 1:
        return [path]
    # Named like the shards of Hugging Face's libraries, which thus read them.
    return [path.with_name(f"{path.stem}-{n:05}-of-{count:05}{path.suffix}") for n in range(1, count + 1)]


def _write_one(
    draft: Path, tensors: Sequence[LazyTensor], metadata: Mapping[str, str], advance: Advance
) -> None:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    place = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": _code(tensor),
            "shape": tensor.shape,
            "data_offsets": (place, place + tensor.nbytes),
        }
        place += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data starts at a multiple of 8, as readers that map it need
    with draft.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            for piece in tensor.pieces():
                # As bytes, because Python's buffers do not know bfloat16.
                file.write(piece.view(np.uint8).data)
            advance()


def _code(tensor: LazyTensor) -> str:
    if tensor.dtype not in _CODES:
        raise UserError(f"{tensor.name} has dtype {tensor.dtype}, which .safetensors cannot hold; cast it")
    return _CODES[tensor.dtype]
