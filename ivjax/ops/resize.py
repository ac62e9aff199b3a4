"""Resizing of position tables with torch's conventions (half-pixel centres, clamped borders).

`jax.image.resize` uses another cubic (a = -0.5) and antialiases, so it does not reproduce the
tables that the released checkpoints were adapted with.
"""

import numpy as np

_CUBIC_A = -0.75


def _cubic_weights(offset: np.ndarray) -> np.ndarray:
    """Weights (n, 4) of the four neighbours at -1, 0, 1, 2 for fractional positions `offset` (n,)."""
    a = _CUBIC_A
    distance = np.abs(offset[:, None] - np.arange(-1, 3))
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)


def _resize_matrix(old: int, new: int, cubic: bool) -> np.ndarray:
    """Matrix (new, old) that resamples an axis of `old` samples to `new`."""
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    if not cubic:
        centre = np.maximum(centre, 0.0)
    floor = np.floor(centre)
    fraction = centre - floor
    weights = _cubic_weights(fraction) if cubic else np.stack([1 - fraction, fraction], axis=1)
    neighbours = floor[:, None].astype(int) + (np.arange(-1, 3) if cubic else np.arange(2))
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], np.clip(neighbours, 0, old - 1)), weights)
    return matrix


def resize_grid(table: np.ndarray, old: tuple[int, int, int], new: tuple[int, int, int]) -> np.ndarray:
    """Resizes a table (T*H*W, C) from grid `old` to `new`: linear in time, then bicubic in space."""
    grid = table.reshape(*old, -1).astype(np.float64)
    if old[0] != new[0]:
        grid = np.einsum("st,thwc->shwc", _resize_matrix(old[0], new[0], cubic=False), grid)
    if old[1:] != new[1:]:
        down = _resize_matrix(old[1], new[1], cubic=True)
        across = _resize_matrix(old[2], new[2], cubic=True)
        grid = np.einsum("gh,xw,thwc->tgxc", down, across, grid, optimize=True)
    return grid.reshape(-1, table.shape[-1]).astype(table.dtype)
