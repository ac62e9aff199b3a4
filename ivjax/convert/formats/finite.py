"""Refuses numbers that no training gave on purpose: NaN and infinities.

Each tensor is looked at when it is read, so nothing is read twice. FILE?nonfinite=allow reads a file as it
is.
"""

import ml_dtypes
import numpy as np

from ivjax.convert.formats.tensors import Renamed, Tensors
from ivjax.errors import UserError

_ALLOW = "?nonfinite=allow"
_CHUNK = 2**20  # numbers that are compared at once, so that they stay in the processor's cache
# The exponents' bits, which are all set in NaN and infinities alone. On two bytes this is faster than numpy's
# own test, which widens each number first.
_EXPONENTS = {np.dtype(np.float16): 0x7C00, np.dtype(ml_dtypes.bfloat16): 0x7F80}


def split_allowed(path: str) -> str | None:
    """Returns the file of FILE?nonfinite=allow; None for any other path."""
    return path.removesuffix(_ALLOW) if path.endswith(_ALLOW) else None


def non_finite(tensor: np.ndarray) -> str:
    """Returns how many numbers are NaN and infinite, in words; "" where all are finite."""
    exponent = _EXPONENTS.get(tensor.dtype)
    if exponent is None and tensor.dtype.kind != "f":
        return ""
    flat = tensor.reshape(-1)
    if all(_is_finite(flat[at : at + _CHUNK], exponent) for at in range(0, flat.size, _CHUNK)):
        return ""
    counts = {"NaN": int(np.isnan(flat).sum()), "infinite": int(np.isinf(flat).sum())}
    found = " and ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    return f"{found} of {flat.size:,} numbers"


def _is_finite(chunk: np.ndarray, exponent: int | None) -> bool:
    if exponent is None:
        return bool(np.isfinite(chunk).all())
    bits = np.uint16(exponent)
    return not np.any((chunk.view(np.uint16) & bits) == bits)


class FiniteTensors(Renamed):
    """Tensors of which one that is not finite cannot be read; `what` is their file in errors."""

    def __init__(self, whole: Tensors, what: str):
        super().__init__(whole, {name: name for name in whole})
        self._what = what

    def __getitem__(self, name: str) -> np.ndarray:
        return self._checked(name, super().__getitem__(name))

    def layer(self, name: str, number: int) -> np.ndarray:
        return self._checked(name, super().layer(name, number))

    def _checked(self, name: str, tensor: np.ndarray) -> np.ndarray:
        if found := non_finite(tensor):
            raise UserError(
                f"{name} of {self._what} holds {found}; `ivjax convert inspect` lists all such tensors, and "
                f"{self._what}{_ALLOW} reads them as they are"
            )
        return tensor
