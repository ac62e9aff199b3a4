"""Reads torch's pickles without torch, and without running anything that they ask for.

Only the calls that rebuild tensors are understood. Settings that training scripts store beside the weights
become inert placeholders, and modules of a TorchScript program become their attributes (`torch_script`).
Everything else that a pickle names is refused, because it could be any function.
"""

import collections
import functools
import io
import pickle
import pickletools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import ml_dtypes
import numpy as np

from ivjax.convert.formats.torch_script import HELPERS, ScriptObject, is_script_class
from ivjax.errors import UserError

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
# Opcodes of a pickle, each of which may make an object. A tensor takes 30, and the largest models have 1,600.
_MOST_OPCODES = 2_000_000
_MOST_AXES = 64  # numpy's arrays have no more


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


def unpickled(data: bytes, path: str) -> Any:
    """Returns what a pickle holds, tensors as `Stored`; a damaged one may raise anything."""
    _check_length(data)
    return _Unpickler(io.BytesIO(data), path).load()


def _check_length(data: bytes) -> None:
    """Raises if a pickle has more opcodes than any model's."""
    for count, _ in enumerate(pickletools.genops(data)):
        if count > _MOST_OPCODES:
            raise pickle.UnpicklingError(f"it has over {_MOST_OPCODES:,} opcodes")


# The unpickler in Python and not the one in C, which cannot be told to look at keys first, and which makes a
# list as long as the highest number under which a pickle claims to remember something.
class _Unpickler(pickle._Unpickler):
    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes], path: str):
        super().__init__(file, encoding="utf-8")
        self._path = path
        self._copied = 0  # entries of what was made by copying

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _COPYING:
            return _Callable(functools.partial(self._copy, _COPYING[module, name]))
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

    def _copy(self, make: Callable[[Any], Any], content: Sequence[Any] = ()) -> Any:
        """Returns what a function makes of a sequence, as long as all copies are no longer than a pickle."""
        # A pickle may name a long list again and again, and each copy of it would take new memory.
        self._copied += len(content)
        if self._copied > _MOST_OPCODES:
            raise pickle.UnpicklingError(f"it copies over {_MOST_OPCODES:,} entries")
        return make(content)

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
        _check_keys(unpickler.stack[keys])
        load(unpickler)

    _Unpickler.dispatch[opcode[0]] = checked


def _check_keys(keys: Iterable[Any]) -> None:
    """Raises for a key of nested tuples.

    A tuple that holds another one twice, which holds a third one twice, and so on, takes for ever to hash.
    Two hundred bytes make sixty of them.
    """
    for key in keys:
        if isinstance(key, tuple) and any(isinstance(part, tuple | frozenset) for part in key):
            raise pickle.UnpicklingError("it has a key of nested tuples")


# Behind a mark, the stack holds keys and values in turn, or the members of a set.
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


def _ordered_dict(pairs: Sequence[Any]) -> dict[Any, Any]:
    """Returns the dict of (key, value) pairs; pickles of newer Pythons give none here, and set them later."""
    _check_keys(key for key, _ in pairs)
    return collections.OrderedDict(pairs)


# Functions of one sequence, of which they return a copy.
_COPYING: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch", "Size"): tuple,
}
_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    **HELPERS,
}
