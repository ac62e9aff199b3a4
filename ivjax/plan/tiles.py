"""How TPUs pad arrays: the two fastest dimensions are stored in tiles of at most 8 x 128."""

import functools
import itertools
import math

_ROWS, _LANES = 8, 128


@functools.cache
def padded_count(shape: tuple[int, ...]) -> int:
    """Elements that an array of `shape` occupies under the order of dimensions that pads it least."""
    count = math.prod(shape)
    if len(shape) < 2 or count == 0:
        return count
    padded = (
        count // (shape[i] * shape[j]) * _up(shape[i], _LANES) * _up(shape[j], _rows(shape[j]))
        for i, j in itertools.permutations(range(len(shape)), 2)
    )
    return min(padded)


def _rows(size: int) -> int:
    """A dimension of fewer than eight gets a smaller tile: 1, 2 or 4 rows."""
    return min(_ROWS, 1 << (size - 1).bit_length())


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
