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
