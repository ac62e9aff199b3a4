"""Position tables on other grids, and image kernels over time.

Tables follow torch's conventions (half-pixel centres, clamped borders). `jax.image.resize` uses another
cubic (a = -0.5) and antialiases, so it does not reproduce the tables that the released checkpoints were
adapted with.
"""

from typing import Literal

import numpy as np

# How a kernel of images becomes one of videos: at the middle frame, or shared by all.
Inflation = Literal["centre", "mean"]

# torch's cubic; jax.image.resize has -0.5.
_CUBIC_A = -0.75


def _cubic_weights(offset: np.ndarray) -> np.ndarray:
    """Weights (n, 4) of the four neighbours at -1, 0, 1, 2 for fractional positions `offset` (n,)."""
    a = _CUBIC_A
    distance = np.abs(offset[:, None] - np.arange(-1, 3))
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)


def resize_matrix(old: int, new: int, cubic: bool) -> np.ndarray:
    """Matrix (new, old) that resamples an axis of `old` samples to `new`."""
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    # torch clamps negative positions for the linear kernel only. The cubic one keeps
    # them, and clamps its neighbours.
    if not cubic:
        centre = np.maximum(centre, 0.0)
    floor = np.floor(centre)
    fraction = centre - floor
    weights = _cubic_weights(fraction) if cubic else np.stack([1 - fraction, fraction], axis=1)
    neighbours = floor[:, None].astype(int) + (np.arange(-1, 3) if cubic else np.arange(2))
    matrix = np.zeros((new, old))
    # At a border several neighbours are clamped to one sample. `matrix[...] += `
    # would count only one of them.
    np.add.at(matrix, (np.arange(new)[:, None], np.clip(neighbours, 0, old - 1)), weights)
    return matrix


def resize_grid(table: np.ndarray, old: tuple[int, int, int], new: tuple[int, int, int]) -> np.ndarray:
    """Resizes a table (T*H*W, C) from grid `old` to `new`: linear in time, then bicubic in space."""
    # In float64, so that the result is rounded once, in the table's own dtype.
    grid = table.reshape(*old, -1).astype(np.float64)
    if old[0] != new[0]:
        grid = np.einsum("st,thwc->shwc", resize_matrix(old[0], new[0], cubic=False), grid)
    if old[1:] != new[1:]:
        down = resize_matrix(old[1], new[1], cubic=True)
        across = resize_matrix(old[2], new[2], cubic=True)
        # Without `optimize` numpy would run over rows and columns of both grids in one nested loop.
        grid = np.einsum("gh,xw,thwc->tgxc", down, across, grid, optimize=True)
    return grid.reshape(-1, table.shape[-1]).astype(table.dtype)


def resize_table(
    table: np.ndarray, old: tuple[int, int, int], new: tuple[int, int, int], kept: int = 0
) -> np.ndarray:
    """Resizes (..., kept + T*H*W, C), leading axes being 1; the first `kept` rows (class token) stay."""
    rows = table.reshape(-1, table.shape[-1])
    resized = np.concatenate([rows[:kept], resize_grid(rows[kept:], old, new)])
    return resized.reshape(*table.shape[:-2], *resized.shape)


def inflate_kernel(kernel: np.ndarray, taps: int, how: Inflation = "centre") -> np.ndarray:
    """An image kernel (O, I, h, w), or a video one of one tap (O, I, 1, h, w), over time: (O, I, taps, h, w).

    centre: the other taps are zero. mean: all taps alike, so that a still clip gives what its image gave.
    """
    single = kernel.reshape(*kernel.shape[:2], 1, *kernel.shape[-2:])
    if how == "mean":
        return np.repeat(single / np.array(taps, kernel.dtype), taps, axis=2)
    inflated = np.zeros((*kernel.shape[:2], taps, *kernel.shape[-2:]), kernel.dtype)
    inflated[:, :, taps // 2] = single[:, :, 0]
    return inflated
