"""Position tables against the original's."""

import numpy as np
import pytest

from ivjax.ops import positions
from ivjax.ops.resize import resize_grid
from tests.goldens import Golden

VIDEOMAE_FRAMES, VIDEOMAE_SIDE = 8, 14  # the grid that the original assumes of its stored table


@pytest.mark.golden
def test_stage1_sincos_tables_are_the_originals():
    golden = Golden("stage1_sincos")
    seen = set()
    for name, config in golden.config.items():
        if name.startswith("videomae"):
            continue
        width, side, times = config["embed_dim"], config["grid_size"], config["t_size"]
        tables = {
            "3d": positions.sincos_3d(width, times, side, side),
            "2d": positions.sincos_2d(width, side, side),
            "1d": positions.sincos_1d(width, np.arange(times)),
        }
        for kind, table in tables.items():
            table = positions.with_zero_cls(table) if config["cls_token"] else table
            np.testing.assert_allclose(table, golden[f"outputs/{kind}_{name}"], atol=2e-6)
            seen.add(f"{kind}_{name}")
    assert len(seen) >= 3


@pytest.mark.golden
def test_stage1_sincos_videomae_tables_are_the_originals():
    golden = Golden("stage1_sincos")
    names = [name for name in golden.config if name.startswith("videomae")]
    assert names
    for name in names:
        config = golden.config[name]
        stored, frames = config["pre_n_position"], config["cur_frame"]
        per_frame = config["n_position"] // frames
        side = int(per_frame**0.5)
        same_space = per_frame * VIDEOMAE_FRAMES == stored
        old = (VIDEOMAE_FRAMES, *([side] * 2 if same_space else [VIDEOMAE_SIDE] * 2))
        table = positions.sinusoid_interleaved(stored, config["d_hid"])
        resized = resize_grid(table, old, (frames, side, side))
        np.testing.assert_allclose(resized[None], golden[f"outputs/{name}"], atol=2e-6)


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: positions.sincos_1d(7, np.arange(3)), "even width, not 7"),
        (lambda: positions.sincos_2d(6, 2, 2), "divisible by 4, not 6"),
        (lambda: positions.sincos_3d(20, 2, 2, 2), "divisible by 16, not 20"),
    ],
)
def test_a_width_that_does_not_divide_is_an_error(make, word):
    with pytest.raises(ValueError, match=word):
        make()
