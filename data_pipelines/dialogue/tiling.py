"""Tiles of large pictures: which grid, and the pictures of its cells, as the originals cut them."""

import functools
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ivjax.errors import UserError

_CUBIC = -0.75  # torch's coefficient of the bicubic kernel


class TileGrid(NamedTuple):
    """Rows and columns of tiles."""

    rows: int
    columns: int

    @property
    def tiles(self) -> int:
        """Number of tiles, without the view of the whole picture."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Tiling:
    """Cuts large pictures into tiles, each of the tower's size, beside one view of the whole.

    Attributes:
        method: `hd` is VideoChat2-HD's: the grid nearest in shape, tiles first, then a smaller picture of the
            same; `any` is that of VideoChat-Flash's images: the grid that keeps most of the picture, the
            whole first, and then the tokens of all tiles in rows across the picture.
        tiles: most tiles (`hd`), or most rows and columns of tiles (`any`).
        videos: whether videos are cut too.
        padding: `white` is VideoChat2-HD's other form, which no released config uses: as many tiles along the
            longer side as there may be, the picture keeps its shape, and white fills up the shorter side.
            `released` does what its code does: upright pictures are squeezed into the shape of wide ones,
            because it mirrors them where it means to turn them. `none` stretches the picture over its tiles.
    """

    method: Literal["hd", "any"] = "hd"
    tiles: int = 6
    videos: bool = True
    padding: Literal["none", "white", "released"] = "none"

    def __post_init__(self) -> None:
        if self.tiles < 1:
            raise UserError(f"a tiling has tiles={self.tiles}; it must be at least 1")
        if self.padding != "none" and self.method != "hd":
            raise UserError(
                f"a tiling has padding={self.padding} and method={self.method}; only hd is padded"
            )

    def grid(self, width: int, height: int, side: int) -> TileGrid:
        """Returns the grid for a picture, of tiles of `side` pixels."""
        if self.padding != "none":
            tiles, short = _along_sides(width, height, side, self.tiles)
            across = TileGrid(-(-short // side), tiles)
            return TileGrid(*reversed(across)) if self._upright(width, height) else across
        if self.method == "hd":
            return nearest_grid(width, height, side, self.tiles)
        return fullest_grid(width, height, side, self.tiles)

    def cut(self, pictures: np.ndarray, grid: TileGrid, side: int) -> np.ndarray:
        """Returns the views (tiles + 1, T, side, side, 3) uint8 of pictures (T, H, W, 3), in order."""
        if self.padding == "none":
            resized = resize(pictures.astype(np.float32), grid.rows * side, grid.columns * side)
        else:
            resized = self._padded(pictures.astype(np.float32), grid, side)
        # VideoChat2 makes the whole view of the resized picture, which has another shape than the original.
        source = resized if self.method == "hd" else pictures.astype(np.float32)
        whole = resize(source, side, side)[None]
        cells = tiles_of(resized, grid)
        views = [cells, whole] if self.method == "hd" else [whole, cells]
        return to_bytes(np.concatenate(views))

    def _upright(self, width: int, height: int) -> bool:
        return self.padding == "white" and height > width

    def _padded(self, pictures: np.ndarray, grid: TileGrid, side: int) -> np.ndarray:
        """Returns pictures (T, H, W, 3) that keep their shape, with white up to the size of a grid."""
        height, width = pictures.shape[1:3]
        tiles, short = _along_sides(width, height, side, self.tiles)
        shape = (tiles * side, short) if self._upright(width, height) else (short, tiles * side)
        missing = [have * side - want for have, want in zip(grid, shape, strict=True)]
        before = [number // 2 for number in missing]
        if self.padding == "released" and height > width:
            before[0] = missing[0] - before[0]  # mirrored, filled up, and mirrored back
        sides = [(first, whole - first) for first, whole in zip(before, missing, strict=True)]
        filled = [(0, 0), *sides, (0, 0)]
        return np.pad(resize(pictures, *shape), filled, constant_values=255)

    def order(self, grid: TileGrid, tokens: int) -> np.ndarray:
        """Returns the order in which the tokens of the views are read, each of `tokens`: (all of them,)."""
        every = np.arange((grid.tiles + 1) * tokens)
        if self.method == "hd":
            return every
        # As if a view's tokens were a square picture, though merging has left them in no such order.
        side = round(tokens**0.5)
        if side * side != tokens:
            raise UserError(f"tiles of {tokens} tokens are no square; `any` tiling needs a square number")
        cells = every[tokens:].reshape(grid.rows, grid.columns, side, side)
        return np.concatenate([every[:tokens], cells.transpose(0, 2, 1, 3).reshape(-1)])


@functools.cache
def _grids(most: int) -> list[tuple[int, int]]:
    """Returns columns and rows of all grids of up to `most` tiles, by their number of tiles."""
    # From a set, as in the originals: its order decides between grids of equally many tiles.
    grids = {
        (i, j)
        for n in range(1, most + 1)
        for i in range(1, n + 1)
        for j in range(1, n + 1)
        if 1 <= i * j <= most
    }
    return sorted(grids, key=lambda grid: grid[0] * grid[1])


def nearest_grid(width: int, height: int, side: int, most: int) -> TileGrid:
    """Returns the grid of up to `most` tiles whose shape is nearest to that of a picture."""
    best, least = (1, 1), float("inf")
    for columns, rows in _grids(most):
        away = abs(width / height - columns / rows)
        # Of grids equally near, the larger one if the picture fills half of it.
        if away < least or (away == least and width * height > 0.5 * side * side * columns * rows):
            best, least = (columns, rows), away
    return TileGrid(best[1], best[0])


def _along_sides(width: int, height: int, side: int, most: int) -> tuple[int, int]:
    """Returns how many of up to `most` tiles go along the longer side, and the pixels of the shorter one."""
    ratio, tiles = max(width, height) / min(width, height), 1
    while (tiles + 1) * math.ceil((tiles + 1) / ratio) <= most:
        tiles += 1
    return tiles, max(int(tiles * side / ratio), 1)


def fullest_grid(width: int, height: int, side: int, most: int) -> TileGrid:
    """Returns the grid, of up to `most` rows and columns, that keeps most of a picture and wastes least."""
    best, kept, wasted = TileGrid(1, 1), 0, float("inf")
    for columns in range(1, most + 1):
        for rows in range(1, most + 1):
            wide, high = columns * side, rows * side
            scale = min(wide / width, high / height)
            effective = min(int(width * scale) * int(height * scale), width * height)
            waste = wide * high - effective
            if effective > kept or (effective == kept and waste < wasted):
                best, kept, wasted = TileGrid(rows, columns), effective, waste
    return best


def tiles_of(pictures: np.ndarray, grid: TileGrid) -> np.ndarray:
    """Returns the cells of pictures (T, rows * s, columns * s, C), row by row: (tiles, T, s, s, C)."""
    times, height, width, channels = pictures.shape
    cells = pictures.reshape(
        times, grid.rows, height // grid.rows, grid.columns, width // grid.columns, channels
    )
    return cells.transpose(1, 3, 0, 2, 4, 5).reshape(
        grid.tiles, times, height // grid.rows, width // grid.columns, channels
    )


def resize(pictures: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns pictures (T, H, W, C) float32, resized as torch's bicubic interpolation does."""
    down = _weights(pictures.shape[1], height)
    across = _weights(pictures.shape[2], width)
    return np.einsum("ih,thwc,jw->tijc", down, pictures, across, optimize=True).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _weights(length: int, wanted: int) -> np.ndarray:
    """Returns the share of each of `length` pixels in each of `wanted`: (wanted, length) float32."""
    centres = (np.arange(wanted) + 0.5) * (length / wanted) - 0.5
    first = np.floor(centres).astype(int)
    weights = np.zeros((wanted, length))
    for tap in range(-1, 3):
        away = np.abs(centres - (first + tap))
        # Pixels beyond the edge are those at the edge.
        np.add.at(weights, (np.arange(wanted), np.clip(first + tap, 0, length - 1)), _cubic(away))
    return weights.astype(np.float32)


def _cubic(away: np.ndarray) -> np.ndarray:
    near = ((_CUBIC + 2) * away - (_CUBIC + 3)) * away * away + 1
    far = ((_CUBIC * away - 5 * _CUBIC) * away + 8 * _CUBIC) * away - 4 * _CUBIC
    return np.where(away <= 1, near, np.where(away < 2, far, 0.0))


def to_bytes(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures of 0 to 255 as uint8, rounded; the bicubic kernel goes beyond both ends."""
    return np.clip(np.rint(pictures), 0, 255).astype(np.uint8)
