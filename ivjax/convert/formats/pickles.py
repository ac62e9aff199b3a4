"""Reads torch's zip files without torch, and without running anything that the pickle asks for.

Only the calls that rebuild tensors are understood. Settings that training scripts store beside the weights
become inert placeholders, and modules of a TorchScript program become their attributes (`torch_script`).
Everything else that a pickle names is refused, because it could be any function.
"""

import collections
import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from ivjax.convert.formats.tensors import Listed
from ivjax.convert.formats.torch_script import HELPERS, ScriptObject, is_script_class, parameters_of
from ivjax.errors import UserError

# The keys under which training scripts store a model's tensors.
CONTAINERS = ("module", "model", "model_state", "state_dict", "model_state_dict")

STORAGES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
# Training scripts often store their arguments beside the weights; to refuse them would refuse such files.
_INERT_CLASSES = {
    ("argparse", "Namespace"),
    ("pathlib", "PosixPath"),
    ("easydict", "EasyDict"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
    ("torch", "device"),
    *(("torch", name) for name in ("float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8")),
}
_INERT_PACKAGES = ("omegaconf", "yacs", "fvcore", "mmengine", "mmcv", "deepspeed")
_ENCRYPTED = 1  # the bit of a zip member's flags
# Opcodes of a pickle, each of which may make an object. A tensor takes 30, and the largest models have 1,600.
_MOST_OPCODES = 2_000_000
_MOST_AXES = 64  # numpy's arrays have no more
# Bytes that a tensor may have beyond those that are stored of it, where it repeats some of them.
_REPEATED_BYTES = 64 << 20
_DAMAGE = (KeyError, ValueError, OverflowError, RuntimeError, zipfile.BadZipFile, EOFError, OSError)


class Inert:
    """Stands in for an object of a class that is not needed."""

    def __init__(self, *arguments: Any, **named: Any):
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """A placeholder of a mapping takes items and forgets them."""


class _Callable:
    """Calls one known function, and cannot be altered by the pickle's opcodes for states.

    A bare function has a `__dict__`, into which a pickle could write.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it sets the state of a function")


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor inside a torch file: a strided view of a storage.

    Attributes:
        storage: the storage's key in the archive.
        dtype: its dtype.
        offset: elements of the storage before the first one of the tensor.
        shape: the tensor's shape.
        strides: elements between neighbours along each axis.
    """

    storage: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it sets the state of a tensor")

    def check(self) -> None:
        """Raises ValueError unless the view goes forward from its storage's start."""
        if len(self.shape) > _MOST_AXES:
            raise ValueError(f"a tensor has {len(self.shape)} axes")
        if max(self.offset, *self.shape, *self.strides, 0) >= 2**63:
            raise ValueError("a tensor has an axis or a step that no array can have")
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or len(self.shape) != len(self.strides):
            raise ValueError(f"a tensor of shape {self.shape} has strides {self.strides} at {self.offset}")


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
        data = archive.read(listing)
        _check_length(data)
        content = _Unpickler(io.BytesIO(data), str(archive.filename)).load()
        if isinstance(content, ScriptObject):
            return "torchscript", parameters_of(content, Stored, str(path))
    except (UserError, OSError):
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(
            f"the pickle in {archive.filename} is damaged ({type(error).__name__}: {error})"
        ) from None
    return _state_dict(content, path)


def _check_length(data: bytes) -> None:
    """Raises if a pickle has more opcodes than any model's."""
    for count, _ in enumerate(pickletools.genops(data)):
        if count > _MOST_OPCODES:
            raise pickle.UnpicklingError(f"it has over {_MOST_OPCODES:,} opcodes")


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
    for key, value in dict.items(container):
        if not isinstance(value, Stored) and _holds_tensors(value):
            raise UserError(
                f"{where} holds more tensors inside {key}, which would be lost; save one flat dict"
            )


def _holds_tensors(value: Any) -> bool:
    """Whether tensors lie anywhere inside; a pickle's dicts and lists may hold themselves."""
    waiting, seen = [value], set()
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, Stored):
            return True
        if isinstance(inner, dict | list | tuple) and id(inner) not in seen:
            seen.add(id(inner))
            waiting.extend(dict.values(inner) if isinstance(inner, dict) else inner)
    return False


# The unpickler in Python and not the one in C, which cannot be told to look at keys first, and which makes a
# list as long as the highest number under which a pickle claims to remember something.
class _Unpickler(pickle._Unpickler):
    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes], path: str):
        super().__init__(file, encoding="utf-8")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) in _FUNCTIONS:
            return _Callable(_FUNCTIONS[module, name])
        if is_script_class(module):
            return ScriptObject
        # Unknown storages pass here, and are refused below with a message about their dtype.
        if module in ("torch", "torch.storage") and (name in STORAGES or name.endswith("Storage")):
            return name
        if (module, name) in _INERT_CLASSES or module.split(".")[0] in _INERT_PACKAGES:
            return Inert
        raise UserError(
            f"{self._path} asks for {module}.{name}, which could run code, and is not read; if you trust the "
            "file, load it with torch and save only its state dict"
        )

    def persistent_load(self, pid: Any) -> tuple[str, Any]:
        kind, storage, key, *_ = pid
        if not all(isinstance(word, str) for word in (kind, storage, key)):
            raise pickle.UnpicklingError("it names a storage by something else than texts")
        if kind != "storage" or storage not in STORAGES:
            raise UserError(f"{self._path} stores tensors as {storage}, which is not read here")
        return key, np.dtype(STORAGES[storage])


def _after_keys(opcode: bytes, keys: slice) -> None:
    """Has an opcode check those things on the stack that it uses as keys, before it does so."""
    load = _Unpickler.dispatch[opcode[0]]

    def checked(unpickler: Any) -> None:
        for key in unpickler.stack[keys]:
            if isinstance(key, tuple) and any(isinstance(part, tuple | frozenset) for part in key):
                raise pickle.UnpicklingError("it has a key of nested tuples")
        load(unpickler)

    _Unpickler.dispatch[opcode[0]] = checked


# A tuple that holds another one twice, which holds a third one twice, and so on, takes for ever to hash: 200
# bytes make sixty of them. Behind a mark, the stack holds keys and values in turn, or the members of a set.
_after_keys(pickle.SETITEM, slice(-2, -1))
_after_keys(pickle.SETITEMS, slice(0, None, 2))
_after_keys(pickle.DICT, slice(0, None, 2))
_after_keys(pickle.ADDITEMS, slice(None))
_after_keys(pickle.FROZENSET, slice(None))


def _rebuild(storage: tuple[str, Any], offset: int, shape: Any, strides: Any, *_: Any) -> Stored:
    key, dtype = storage
    if not isinstance(dtype, np.dtype):
        raise ValueError(f"a tensor has {type(dtype).__name__} for a dtype")
    stored = Stored(key, dtype, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))
    stored.check()
    return stored


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch", "Size"): tuple,
    **HELPERS,
}
