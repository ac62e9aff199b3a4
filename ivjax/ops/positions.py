"""Sin-cos position tables of the InternVideo family, as float32 numpy arrays.

A 1-D code of width d at position x is the block layout [sin(x w_0).. | cos(x w_0)..] with
w_k = 10000^(-k / (d/2)).
"""

import numpy as np


def sincos_1d(width: int, positions: np.ndarray) -> np.ndarray:
    """Codes (len(positions), width) of integer `positions`; `width` must be even."""
    if width % 2:
        raise ValueError(f"a sin-cos code needs an even width, not {width}")
    # Frequencies and angles in float32, as in the originals: in float64 the codes would
    # differ in their last digits.
    exponent = np.arange(width // 2, dtype=np.float32) / np.float32(width / 2)
    omega = (1.0 / 10000**exponent).astype(np.float32)
    angle = positions.reshape(-1, 1).astype(np.float32) * omega
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


def sincos_2d(width: int, rows: int, columns: int) -> np.ndarray:
    """Table (rows * columns, width), row-major: [column code | row code], each width / 2.

    The column comes first: the released tables were built that way.
    """
    if width % 4:
        raise ValueError(f"a 2-D sin-cos table needs a width divisible by 4, not {width}")
    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.concatenate([sincos_1d(width // 2, column), sincos_1d(width // 2, row)], axis=1)


def sincos_3d(width: int, times: int, rows: int, columns: int) -> np.ndarray:
    """Table (times * rows * columns, width), time-major: [time code C/4 | 2-D code 3C/4]."""
    # Time takes a quarter of the channels, row and column three eighths each, and
    # every code has an even width.
    if width % 16:
        raise ValueError(f"a 3-D sin-cos table needs a width divisible by 16, not {width}")
    space = sincos_2d(width // 4 * 3, rows, columns)
    time = sincos_1d(width // 4, np.arange(times))
    return np.concatenate([np.repeat(time, rows * columns, axis=0), np.tile(space, (times, 1))], axis=1)


def with_zero_cls(table: np.ndarray) -> np.ndarray:
    """Prepends the all-zero class-token row: (N, C) -> (1 + N, C)."""
    return np.concatenate([np.zeros((1, table.shape[1]), table.dtype), table])


def sinusoid_interleaved(length: int, width: int) -> np.ndarray:
    """VideoMAE's fixed table (length, width): even channels sin, odd channels cos, of the flat index."""
    channel = np.arange(width)
    # In float64 until the end, as VideoMAE makes it; the tables above are in float32 from the start.
    angle = np.arange(length)[:, None] / np.power(10000, 2 * (channel // 2) / width)
    return np.where(channel % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)
