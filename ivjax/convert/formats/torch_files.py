"""Writes tensors as torch.save does, without torch: a zip of one pickle and one file for each tensor.

The pickle is put together from opcodes, because Python's own pickler refuses to name functions of a package
that is not installed. `torch.load(..., weights_only=True)` reads the file.
"""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ivjax.convert.formats.pickles import STORAGES
from ivjax.convert.formats.tensors import LazyTensor, Shape
from ivjax.convert.formats.writing import Advance, new_files, no_progress
from ivjax.errors import UserError

_NAMES = {np.dtype(dtype): name for name, dtype in STORAGES.items()}
_ROOT = "archive"
_EMPTY_DICT = b"ccollections\nOrderedDict\n)R"


def write_torch(
    path: Path, tensors: Sequence[LazyTensor], container: str, advance: Advance = no_progress
) -> list[Path]:
    """Writes a state dict, under the key `container` unless that is `flat`; returns the file."""
    for tensor in tensors:
        if tensor.dtype not in _NAMES:
            raise UserError(f"{tensor.name} has dtype {tensor.dtype}, which torch files cannot hold; cast it")
    with new_files([path], path) as drafts, zipfile.ZipFile(drafts[path], "w") as archive:
        archive.writestr(f"{_ROOT}/data.pkl", _pickled(tensors, container))
        archive.writestr(f"{_ROOT}/byteorder", "little")
        for key, tensor in enumerate(tensors):
            # zipfile has to know beforehand whether a member may pass 2 GiB, which
            # its shorter header cannot say.
            with archive.open(f"{_ROOT}/data/{key}", "w", force_zip64=tensor.nbytes > 2**30) as file:
                for piece in tensor.pieces():
                    file.write(piece.view(np.uint8).data)
            advance()
        archive.writestr(f"{_ROOT}/version", "3\n")
    return [path]


def _pickled(tensors: Sequence[LazyTensor], container: str) -> bytes:
    items = b"".join(_text(tensor.name) + _tensor(str(key), tensor) for key, tensor in enumerate(tensors))
    state = _EMPTY_DICT + b"(" + items + b"u"
    # Protocol 2 is torch's own; a pickle of any other makes torch.load warn or fail.
    return b"\x80\x02" + (state if container == "flat" else b"}" + _text(container) + state + b"s") + b"."


def _tensor(key: str, tensor: LazyTensor) -> bytes:
    """`_rebuild_tensor_v2(storage, 0, shape, strides, requires_grad=False, hooks={})`."""
    kind = f"ctorch\n{_NAMES[tensor.dtype]}\n".encode()
    numbers = math.prod(tensor.shape)
    storage = b"(" + _text("storage") + kind + _text(key) + _text("cpu") + _int(numbers) + b"tQ"
    shape = _tuple(tensor.shape) + _tuple(_strides(tensor.shape))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _int(0) + shape + b"\x89" + _EMPTY_DICT + b"tR"


def _strides(shape: Shape) -> Shape:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _tuple(numbers: Shape) -> bytes:
    return b"(" + b"".join(map(_int, numbers)) + b"t"


def _int(number: int) -> bytes:
    """The opcode LONG1, which holds integers of any size."""
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _text(text: str) -> bytes:
    """The opcode BINUNICODE."""
    data = text.encode()
    return b"X" + len(data).to_bytes(4, "little") + data
