"""Reads torch's zip files without torch, and without running anything that the pickle asks for.

Only what rebuilds tensors is understood. Settings that training scripts store beside the weights become
inert placeholders. Whatever else a pickle names is refused: it could be any function.
"""

import collections
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from ivjax.errors import UserError

CONTAINERS = ("module", "model", "model_state", "state_dict", "model_state_dict")

_STORAGES: dict[str, Any] = {
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


class Inert:
    """Stands in for an object whose class is none of our business."""

    def __init__(self, *arguments: Any, **named: Any):
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """A placeholder of a mapping takes items and forgets them."""


@dataclass(frozen=True)
class Stored:
    """A tensor inside a torch file: a strided view of a storage."""

    storage: str
    dtype: Any
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchTensors(Mapping[str, np.ndarray]):
    """Tensors by name; each one is read from the zip when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile, root: str, tensors: Mapping[str, Stored], container: str):
        self.container = container
        self._archive = archive
        self._root = root
        self._tensors = dict(tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape without reading the tensor."""
        return self._tensors[name].shape

    def __getitem__(self, name: str) -> np.ndarray:
        stored = self._tensors[name]
        try:
            data = self._archive.read(f"{self._root}/data/{stored.storage}")
        except (KeyError, zipfile.BadZipFile, EOFError) as error:
            raise UserError(
                f"{self._archive.filename}: the bytes of {name} are damaged or missing ({error})"
            ) from None
        flat = np.frombuffer(data, stored.dtype)[stored.offset :]
        strides = [step * flat.itemsize for step in stored.strides]
        _check_inside(flat, stored, f"{self._archive.filename}: {name}")
        return np.lib.stride_tricks.as_strided(flat, stored.shape, strides, writeable=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def open_torch(path: Path) -> TorchTensors:
    """The tensors of a .pt, .pth or .bin file, out of whatever container they are wrapped in."""
    try:
        archive = zipfile.ZipFile(path)
        [listing] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        with archive.open(listing) as file:
            content = _Unpickler(file, str(path)).load()
    except zipfile.BadZipFile:
        raise UserError(
            f"{path} is no whole torch file: it is truncated, or older than torch 1.6 (then load and save "
            "it once with torch)"
        ) from None
    except ValueError:
        raise UserError(f"{path} is a zip file, but not torch's: it has no single data.pkl") from None
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError, KeyError) as error:
        raise UserError(f"the pickle in {path} is damaged ({type(error).__name__}: {error})") from None
    container, tensors = _state_dict(content, path)
    return TorchTensors(archive, listing.rpartition("/")[0], tensors, container)


def _state_dict(content: Any, path: Path) -> tuple[str, dict[str, Stored]]:
    """The tensors, and the key they lay under (`flat` for none)."""
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    for name in ("flat", *CONTAINERS):
        inner = content if name == "flat" else content.get(name)
        tensors = {k: v for k, v in inner.items() if isinstance(v, Stored)} if isinstance(inner, dict) else {}
        if tensors:
            return name, {str(key): value for key, value in tensors.items()}
    raise UserError(
        f"{path} holds no tensors under {', '.join(CONTAINERS)}; it has {', '.join(map(str, content))}"
    )


def _check_inside(flat: np.ndarray, stored: Stored, where: str) -> None:
    last = sum((size - 1) * step for size, step in zip(stored.shape, stored.strides, strict=True))
    if 0 in stored.shape:
        return
    if last >= flat.size or any(step < 0 for step in stored.strides):
        raise UserError(f"{where} reaches beyond its {flat.size} stored numbers: the file is damaged")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], path: str):
        super().__init__(file, encoding="utf-8")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("torch", "Size"): lambda sizes: tuple(sizes),
        }
        if (module, name) in known:
            return known[module, name]
        if module in ("torch", "torch.storage") and (name in _STORAGES or name.endswith("Storage")):
            return name
        if (module, name) in _INERT_CLASSES or module.split(".")[0] in _INERT_PACKAGES:
            return Inert
        raise UserError(
            f"{self._path} asks for {module}.{name}, which could run code, and is not read; if you trust the "
            "file, load it with torch and save only its state dict"
        )

    def persistent_load(self, pid: Any) -> tuple[str, Any]:
        kind, storage, key, *_ = pid
        if kind != "storage" or storage not in _STORAGES:
            raise UserError(f"{self._path} stores tensors as {storage}, which is not read here")
        return str(key), np.dtype(_STORAGES[storage])


def _rebuild(storage: tuple[str, Any], offset: int, shape: Any, strides: Any, *_: Any) -> Stored:
    key, dtype = storage
    return Stored(key, dtype, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))
