"""Torch's zip files: the pickle that lists the tensors, and a member with the bytes of each storage."""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.convert.formats.pickles import Stored, unpickled
from ivjax.convert.formats.tensors import Listed
from ivjax.convert.formats.torch_script import ScriptObject, parameters_of
from ivjax.errors import UserError

# The keys under which training scripts store a model's tensors.
CONTAINERS = ("module", "model", "model_state", "state_dict", "model_state_dict")
_ENCRYPTED = 1  # the bit of a zip member's flags
# Bytes that a tensor may have beyond those that are stored of it, where it repeats some of them.
_REPEATED_BYTES = 64 << 20
_DAMAGE = (KeyError, ValueError, OverflowError, RuntimeError, zipfile.BadZipFile, EOFError, OSError)


class TorchTensors(Listed[Stored]):
    """Tensors of a torch file."""

    def __init__(self, archive: zipfile.ZipFile, root: str, tensors: Mapping[str, Stored], container: str):
        super().__init__(tensors)
        self.container = container
        self._archive = archive
        self._root = root

    def __getitem__(self, name: str) -> np.ndarray:
        stored, where = self._entries[name], f"{self._archive.filename}: {name}"
        try:
            return self._array(stored, where)
        except _DAMAGE as error:
            raise UserError(
                f"{self._archive.filename}: the bytes of {name} are damaged or missing ({error})"
            ) from None

    def _array(self, stored: Stored, where: str) -> np.ndarray:
        stored.check()  # as_strided checks nothing: a wrong stride would read foreign memory
        if 0 in stored.shape:
            return np.empty(stored.shape, stored.dtype)
        flat = np.frombuffer(self._bytes(stored, where), stored.dtype)
        strides = [step * stored.dtype.itemsize for step in stored.strides]
        return np.lib.stride_tricks.as_strided(flat, stored.shape, strides, writeable=False)

    def _bytes(self, stored: Stored, where: str) -> bytes:
        """Returns the bytes of its storage that a tensor views."""
        member = self._archive.getinfo(f"{self._root}/data/{stored.storage}")
        _check_plain(member, where)
        size = stored.dtype.itemsize
        last = sum((axis - 1) * step for axis, step in zip(stored.shape, stored.strides, strict=True))
        if (stored.offset + last + 1) * size > member.file_size:
            numbers = member.file_size // size
            raise UserError(f"{where} reaches beyond its {numbers} stored numbers: the file is damaged")
        # A step of 0 repeats numbers: four stored bytes could fill all memory.
        if math.prod(stored.shape) * size > member.file_size + _REPEATED_BYTES:
            raise UserError(f"{where} repeats its stored numbers to shape {stored.shape}; save it contiguous")
        with self._archive.open(member) as file:
            file.seek(stored.offset * size)
            # zipfile compares the checksum only when a member is read to its end in one go.
            whole = stored.offset == 0 and (last + 1) * size == member.file_size
            return file.read() if whole else file.read((last + 1) * size)


def open_torch(path: Path) -> TorchTensors:
    """Returns the tensors of a .pt, .pth or .bin file, whichever key of the file holds them."""
    try:
        archive = zipfile.ZipFile(path)
    except OSError:
        raise
    except Exception as error:  # a damaged directory of the archive may raise anything
        raise UserError(f"{path} is no whole torch file: it is truncated or damaged ({error})") from None
    listings = [member for member in archive.infolist() if member.filename.endswith("/data.pkl")]
    if len(listings) != 1:
        raise UserError(
            f"{path} is a zip file, but not torch's: it has no single data.pkl; give the file inside, if any"
        )
    root = listings[0].filename.rpartition("/")[0]
    _check_plain(listings[0], str(path))
    _check_byte_order(archive, root)
    container, tensors = _unpickled(archive, listings[0], path)
    return TorchTensors(archive, root, tensors, container)


def _check_plain(member: zipfile.ZipInfo, where: str) -> None:
    """Raises if a member is encrypted or compressed, as torch never does: unpacked it may have any size."""
    if member.flag_bits & _ENCRYPTED:
        raise UserError(f"{where} is encrypted, as torch's files never are; it is not read")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise UserError(f"{where} is compressed, as torch's files never are; it is not read")


def _check_byte_order(archive: zipfile.ZipFile, root: str) -> None:
    name = f"{root}/byteorder"
    if name not in archive.namelist():
        return
    _check_plain(archive.getinfo(name), f"{archive.filename}: {name}")
    try:
        with archive.open(name) as file:
            order = file.read(16)
    except _DAMAGE as error:
        raise UserError(f"{archive.filename}: {name} is damaged ({error}); fetch it again") from None
    if order.strip() == b"big":
        raise UserError(f"{archive.filename} was written on a big-endian machine; save it again with torch")


def _unpickled(
    archive: zipfile.ZipFile, listing: zipfile.ZipInfo, path: Path
) -> tuple[str, dict[str, Stored]]:
    """Returns the key that holds the tensors, and these tensors."""
    try:
        content = unpickled(archive.read(listing), str(path))
        if isinstance(content, ScriptObject):
            return "torchscript", parameters_of(content, Stored, str(path))
    except (UserError, OSError):
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"the pickle in {path} is damaged ({type(error).__name__}: {error})") from None
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> tuple[str, dict[str, Stored]]:
    """Returns the key with the most tensors (`flat` for none), and these tensors."""
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    # A pickle can replace the methods of an OrderedDict instance, hence `dict.get` and the like.
    insides: dict[str, Any] = {"flat": content} | {name: dict.get(content, name) for name in CONTAINERS}
    tensors = {name: _tensors(inside) for name, inside in insides.items()}
    # A file may hold several of these keys; the optimizer and copies of single layers have fewer tensors.
    best = max(tensors, key=lambda name: len(tensors[name]))
    if not tensors[best]:
        found = ", ".join(map(str, dict.keys(content)))
        raise UserError(f"{path} holds no tensors under {', '.join(CONTAINERS)}; it has {found}")
    if best != "flat":  # next to flat tensors, nested ones are the optimizer's, and not needed
        _check_not_nested(insides[best], f"{path}: {best}")
    return best, tensors[best]


def _tensors(inside: Any) -> dict[str, Stored]:
    items = dict.items(inside) if isinstance(inside, dict) else ()
    return {str(key): value for key, value in items if isinstance(value, Stored)}


def _check_not_nested(container: dict[Any, Any], where: str) -> None:
    seen: set[int] = set()
    for key, value in dict.items(container):
        if not isinstance(value, Stored) and _holds_tensors(value, seen):
            raise UserError(
                f"{where} holds more tensors inside {key}, which would be lost; save one flat dict"
            )


def _holds_tensors(value: Any, seen: set[int]) -> bool:
    """Whether tensors lie anywhere inside, and not in what was `seen` before, by its id.

    A pickle's dicts and lists may hold themselves, and each other again and again.
    """
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, Stored):
            return True
        if isinstance(inner, dict | list | tuple) and id(inner) not in seen:
            seen.add(id(inner))
            waiting.extend(dict.values(inner) if isinstance(inner, dict) else inner)
    return False
