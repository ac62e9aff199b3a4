"""Writes files as torch does, without torch."""

import collections
import io
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

_KINDS = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "bfloat16": "BFloat16Storage",
}


def _modules() -> dict[str, types.ModuleType]:
    """Empty shells of the modules whose names torch's pickles hold."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in _KINDS.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *a: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    return {"torch": torch, "torch._utils": utils}


class _Storage:
    def __init__(self, key: str, kind: type, count: int):
        self.key, self.kind, self.count = key, kind, count


class _Tensor:
    """Pickles as a torch tensor that views a storage."""

    def __init__(self, rebuild: Any, storage: _Storage, shape: Any, strides: Any, parameter: Any):
        self.parts = (rebuild, storage, shape, strides, parameter)

    def __reduce__(self):
        rebuild, storage, shape, strides, parameter = self.parts
        tensor = (rebuild, (storage, 0, shape, strides, False, collections.OrderedDict()))
        if parameter is None:
            return tensor
        return parameter, (_Tensor(*self.parts[:4], None), False, collections.OrderedDict())


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, _Storage):
            return ("storage", obj.kind, obj.key, "cpu", obj.count)
        return None


def write_torch(path: Path, content: Any, parameters: bool = False) -> Path:
    """Stores nested dicts of numpy arrays; other values are pickled as they are."""
    storages: list[bytes] = []
    with mock.patch.dict(sys.modules, _modules()):
        torch, utils = sys.modules["torch"], sys.modules["torch._utils"]

        def stored(value: Any) -> Any:
            if isinstance(value, dict):
                return type(value)((k, stored(v)) for k, v in value.items())
            if not isinstance(value, np.ndarray):
                return value
            base = value if value.flags.c_contiguous else value.base
            storages.append(np.ascontiguousarray(base).tobytes())
            kind = getattr(torch, _KINDS[value.dtype.name])
            storage = _Storage(str(len(storages) - 1), kind, base.size)
            strides = tuple(step // value.itemsize for step in value.strides)
            parameter = utils._rebuild_parameter if parameters else None
            return _Tensor(utils._rebuild_tensor_v2, storage, value.shape, strides, parameter)

        file = io.BytesIO()
        _Pickler(file, protocol=2).dump(stored(content))
    return write_zip(path, file.getvalue(), storages)


def write_zip(path: Path, pickled: bytes, storages: list[bytes]) -> Path:
    """A torch file of a given pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", pickled)
        archive.writestr("weights/version", "3\n")
        for key, data in enumerate(storages):
            archive.writestr(f"weights/data/{key}", data)
    return path
