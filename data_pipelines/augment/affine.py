"""Rotations, shears and shifts, the same for all frames of a clip (T, H, W, 3) uint8."""

import math
from collections.abc import Iterator

import numpy as np

_FILL = 128  # the grey that the originals put where a rotation or a shift uncovers nothing
_BLOCK = 4096  # points at a time, so that their sums stay in the processor's cache

MatrixRow = tuple[float, float, float]  # factors of x and y, and an offset


def rotate(video: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates about the centre, counter-clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = video.shape[2] / 2, video.shape[1] / 2
    return affine(video, ((cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y)))


def shear_x(video: np.ndarray, slope: float) -> np.ndarray:
    """Shifts rows left by `slope` times their distance from the top."""
    return affine(video, ((1, slope, 0), (0, 1, 0)))


def shear_y(video: np.ndarray, slope: float) -> np.ndarray:
    """Shifts columns up by `slope` times their distance from the left."""
    return affine(video, ((1, 0, 0), (slope, 1, 0)))


def translate_x(video: np.ndarray, share: float) -> np.ndarray:
    """Shifts everything left by a share of the width."""
    return affine(video, ((1, 0, share * video.shape[2]), (0, 1, 0)))


def translate_y(video: np.ndarray, share: float) -> np.ndarray:
    """Shifts everything up by a share of the height."""
    return affine(video, ((1, 0, 0), (0, 1, share * video.shape[1])))


def affine(video: np.ndarray, matrix: tuple[MatrixRow, MatrixRow]) -> np.ndarray:
    """Reads the pixel of (x, y) at matrix @ (x, y, 1), bicubically; what lies outside the frame is grey.

    Coordinates count from the corner of the frame: the centre of the first pixel is (0.5, 0.5).
    """
    frames, height, width, _ = video.shape
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    across, down = (np.broadcast_to(a * x + b * y + c, (height, width)).reshape(-1) for a, b, c in matrix)
    inside = np.flatnonzero((across >= 0) & (across < width) & (down >= 0) & (down < height))
    whole = np.ascontiguousarray(video).view("V3").reshape(frames, -1)  # three bytes that move as one
    seen = np.ascontiguousarray(whole.T).view(np.uint8)  # a pixel of all frames lies together: (H W, 3 T)
    shown = np.full_like(seen, _FILL)
    for start in range(0, len(inside), _BLOCK):
        block = inside[start : start + _BLOCK]
        shown[block] = _fetch(seen, across[block] - 0.5, down[block] - 0.5, width)
    return np.ascontiguousarray(shown.view("V3").T).view(np.uint8).reshape(video.shape)


def _fetch(seen: np.ndarray, across: np.ndarray, down: np.ndarray, width: int) -> np.ndarray:
    """Interpolates n points between the pixels of `seen` (H W, C): (n, C) uint8."""
    total = np.zeros((len(across), seen.shape[1]), np.float32)
    product = np.empty_like(total)
    for places, weights in _taps(across, down, width, len(seen) // width):
        total += np.multiply(np.take(seen, places, axis=0), weights[:, None], out=product)
    return np.clip(np.rint(total, out=total), 0, 255, out=total).astype(np.uint8)


def _taps(
    across: np.ndarray, down: np.ndarray, width: int, height: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields neighbours of n points: numbers of pixels (n,) and weights (n,), unless all weights are 0."""
    columns = list(_neighbours(across, width))
    # A shift by whole pixels has one neighbour of weight 1, and shears along one axis have four of sixteen.
    for row, row_weight in _neighbours(down, height):
        for column, column_weight in columns:
            weight = row_weight * column_weight
            if weight.any():
                yield row * width + column, weight


def _neighbours(places: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the four nearest of `size` samples along a line and their weights.

    The weights are Pillow's bicubic ones: Keys' kernel with a = -1.
    """
    before = np.floor(places)
    s = (places - before).astype(np.float32)
    weights = (((2 - s) * s - 1) * s, (s - 2) * s * s + 1, ((1 - s) * s + 1) * s, (s - 1) * s * s)
    for step, weight in enumerate(weights, start=-1):
        yield np.clip(before + step, 0, size - 1).astype(np.intp), weight
