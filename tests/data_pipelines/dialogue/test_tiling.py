"""Tiles of large pictures."""

import numpy as np
import pytest

from ivjax.data_pipelines.dialogue.tiling import (
    TileGrid,
    Tiling,
    fullest_grid,
    nearest_grid,
    resize,
    tiles_of,
)
from ivjax.errors import UserError
from tests.goldens import Golden

HD = "s3_hd_tiling"


@pytest.mark.golden
@pytest.mark.parametrize("name", [HD])
def test_hd_tiles_are_those_of_the_original(name):
    golden = Golden(name)
    for number, case in enumerate(golden.config["cases"]):
        side = case["image_size"]
        grid = nearest_grid(case["width"], case["height"], side, case["hd_num"])
        assert grid == (case["grid_rows"], case["grid_cols"])
        frames = golden[f"inputs/{number}/frames"].transpose(0, 2, 3, 1)
        resized = resize(frames, grid.rows * side, grid.columns * side)
        whole = resize(resized, side, side)

        def same(found, key, number=number):
            np.testing.assert_allclose(
                np.moveaxis(found, -1, -3), golden[f"outputs/{number}/{key}"], atol=1e-5
            )

        same(resized, "resized")
        same(tiles_of(resized, grid), "tiles")
        same(whole, "global")
        views = Tiling("hd", case["hd_num"]).cut(np.zeros((2, 9, 9, 3), np.uint8), grid, side)
        assert views.shape == (grid.tiles + 1, 2, side, side, 3)


def test_any_resolution_keeps_most_of_a_picture_and_reads_the_whole_first():
    assert fullest_grid(300, 100, 100, 6) == (1, 3)
    assert fullest_grid(100, 100, 100, 6) == (1, 1)
    assert fullest_grid(90, 250, 100, 6) == (3, 1)
    tiling, grid = Tiling("any"), TileGrid(1, 2)
    picture = np.zeros((1, 4, 8, 3), np.uint8)
    picture[:, :, 4:] = 200
    whole, left, right = tiling.cut(picture, grid, 4)
    assert (left == 0).all() and (right == 200).all() and 0 < whole.mean() < 200
    # Four tokens a view: the upper rows of both tiles come before the lower ones.
    assert tiling.order(grid, 4).tolist() == [0, 1, 2, 3, 4, 5, 8, 9, 6, 7, 10, 11]
    with pytest.raises(UserError, match="tiles of 5 tokens are no square"):
        tiling.order(grid, 5)
    assert Tiling("hd").order(grid, 5).tolist() == list(range(15))


def original_padding(frames, side, most):
    """VideoChat2-HD's padded form, written from its description: (T, H, W, 3) -> (T, h, w, 3)."""
    height, width = frames.shape[1:3]
    mirrored = width < height
    if mirrored:
        frames, width, height = frames[:, ::-1, ::-1], height, width
    ratio, scale = width / height, 1
    while scale * np.ceil(scale / ratio) <= most:
        scale += 1
    wide = (scale - 1) * side
    resized = resize(frames, int(wide / ratio), wide)
    missing = -resized.shape[1] % side
    filled = np.pad(
        resized, ((0, 0), (missing // 2, missing - missing // 2), (0, 0), (0, 0)), constant_values=255
    )
    return filled[:, ::-1, ::-1] if mirrored else filled


@pytest.mark.parametrize("shape", [(20, 33), (40, 18), (9, 40), (16, 16), (31, 16)])
def test_padded_tiles_are_those_of_the_original_with_its_fault_and_upright_without_it(shape):
    frames = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    height, width = shape
    released, white = Tiling("hd", 6, padding="released"), Tiling("hd", 6, padding="white")
    wanted = original_padding(frames.astype(np.float32), 8, 6)
    grid = released.grid(width, height, 8)
    assert (grid.rows * 8, grid.columns * 8) == wanted.shape[1:3] and grid.tiles <= 6
    views = [*tiles_of(wanted, grid), resize(wanted, 8, 8)]
    found = released.cut(frames, grid, 8)
    assert np.abs(found.astype(float) - np.clip(np.rint(views), 0, 255)).max() <= 1

    upright = white.grid(width, height, 8)
    assert upright == (grid if width >= height else TileGrid(grid.columns, grid.rows))
    # A picture on its side has the same tiles, turned.
    turned = white.cut(frames.transpose(0, 2, 1, 3), TileGrid(upright.columns, upright.rows), 8)
    again = turned[:-1].reshape(upright.columns, upright.rows, 2, 8, 8, 3).transpose(1, 0, 2, 4, 3, 5)
    own = white.cut(frames, upright, 8)[:-1]
    assert np.abs(own.astype(float) - again.reshape(own.shape)).max() <= 1


def test_padding_is_of_hd_alone():
    with pytest.raises(UserError, match="a tiling has padding=white and method=any; only hd is padded"):
        Tiling("any", padding="white")
