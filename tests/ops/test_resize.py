"""Resizing of position tables, and kernels over time."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.engine.fits import Fitting, first_rows, over_time, places, times, times_and_places
from ivjax.errors import UserError
from ivjax.ops.resize import inflate_kernel, resize_grid, resize_table
from ivjax.ops.video import resize_frames, standardise
from tests.goldens import Golden


def table(grid, width=3):
    return np.random.default_rng(0).normal(size=(int(np.prod(grid)), width)).astype(np.float32)


def test_the_same_grid_is_left_alone():
    start = table((2, 3, 4))
    np.testing.assert_array_equal(resize_grid(start, (2, 3, 4), (2, 3, 4)), start)


def test_time_is_linear_between_half_pixel_centres():
    ramp = np.arange(4, dtype=np.float32)[:, None]
    doubled = resize_grid(ramp, (4, 1, 1), (8, 1, 1))[:, 0]
    np.testing.assert_allclose(doubled, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


def test_constants_stay_constant():
    resized = resize_grid(np.full((4 * 5 * 6, 2), 3.0, np.float32), (4, 5, 6), (7, 9, 4))
    np.testing.assert_allclose(resized, 3.0, rtol=1e-6)
    assert resized.shape == (7 * 9 * 4, 2)


def test_space_equals_torch_bicubic():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    start = table((2, 5, 7))
    grid = torch.from_numpy(start.reshape(2, 5, 7, 3)).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, size=(8, 4), mode="bicubic", align_corners=False)
    expected = expected.permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    np.testing.assert_allclose(resize_grid(start, (2, 5, 7), (2, 8, 4)), expected, atol=1e-5)


def assert_fitted(rule, fitting, start, wanted):
    change = rule(start.shape, wanted.shape, fitting)
    np.testing.assert_allclose(change.apply(start), wanted, rtol=0, atol=1e-5)


def cases(golden, kind):
    found = {n: c for n, c in golden.config.items() if n.startswith(kind) and isinstance(c, dict)}
    assert found
    return found.items()


@pytest.mark.golden
def test_stage1_posembed_interp_resizes_joint_tables_as_the_original_does():
    golden = Golden("stage1_posembed_interp")
    for name, case in cases(golden, "joint"):
        new = (case["new_T"], case["new_grid"], case["new_grid"])
        start, wanted = golden[f"inputs/{name}"], golden[f"outputs/{name}"]
        assert_fitted(times_and_places(kept=1), Fitting(new, (case["orig_T"],)), start, wanted)
        np.testing.assert_array_equal(start[0, 0], wanted[0, 0])


@pytest.mark.golden
def test_stage1_posembed_interp_resizes_separable_tables_as_the_original_does():
    golden = Golden("stage1_posembed_interp")
    for name, _ in cases(golden, "sep"):
        key = name.replace("sep", "sep_temporal")
        assert_fitted(times, Fitting(), golden[f"inputs/{key}"], golden[f"outputs/{key}"])


@pytest.mark.golden
def test_stage1_posembed_interp_resizes_image_tables_and_kernels_as_the_original_does():
    golden = Golden("stage1_posembed_interp")
    for name, _ in cases(golden, "internvl"):
        for rule, there, here in ((places(kept=1), "pos", "pos"), (over_time, "patch2d", "patch3d")):
            start = golden[f"inputs/{name.replace('internvl', f'internvl_{there}')}"]
            assert_fitted(
                rule, Fitting(), start, golden[f"outputs/{name.replace('internvl', f'internvl_{here}')}"]
            )


@pytest.mark.golden
def test_stage1_posembed_interp_inflates_kernels_as_the_original_does():
    golden = Golden("stage1_posembed_interp")
    kernel, wanted = golden["inputs/inflate_w2d"], golden.group("outputs")
    inflated = {name: value for name, value in wanted.items() if name.startswith("inflate")}
    assert inflated
    for name, value in inflated.items():
        how = "mean" if "mean" in name else "centre"
        assert_fitted(over_time, Fitting(inflate=how), kernel, value)
        np.testing.assert_allclose(inflate_kernel(kernel[:, :, None], value.shape[2], how), value, atol=1e-7)


@pytest.mark.golden
def test_viclip_tiny_time_tables_are_resized_as_the_originals():
    golden = Golden("viclip_tiny")
    start = golden["inputs/temp_embed_old"]
    grown = [value for name, value in golden.group("outputs").items() if name.endswith("linear")]
    assert grown
    for wanted in grown:
        flat = start.reshape(1, start.shape[1], -1), wanted.reshape(1, wanted.shape[1], -1)
        assert_fitted(times, Fitting(), *flat)


@pytest.mark.golden
def test_stage2_data_rules_resize_position_tables():
    golden = Golden("stage2_data_rules")
    told = golden.json["tensors"]
    names = [name.removeprefix("inputs/") for name in told if name.startswith("inputs/pos_")]
    assert names
    for name in names:
        old = tuple(map(int, re.search(r"1\+(\d+)\*(\d+)\*(\d+)", told[f"inputs/{name}"]).groups()))
        new = tuple(map(int, re.search(r"T=(\d+), grid (\d+)x(\d+)", told[f"outputs/{name}"]).groups()))
        resized = resize_table(golden[f"inputs/{name}"], old, new, kept=1)
        np.testing.assert_allclose(resized, golden[f"outputs/{name}"], atol=1e-5)


def test_the_grid_of_a_joint_table_is_found_or_asked_for():
    rule = times_and_places(kept=1)
    change = rule((1, 1025, 4), (1, 4097, 4), Fitting((16, 16, 16), (8, 4, 16)))
    assert change.text == "resized from 4x16x16 to 16x16x16"
    assert (
        rule((1, 2049, 4), (1, 4609, 4), Fitting(None, (8, 4, 16))).text == "resized from 8x16x16 to 8x24x24"
    )
    with pytest.raises(UserError, match="4096 patches may be 4x32x32 or 16x16x16; say how many frames"):
        rule((1, 4097, 4), (1, 4609, 4), Fitting((8, 24, 24), (8, 4, 16)))
    assert (
        rule((1, 4097, 4), (1, 4609, 4), Fitting((8, 24, 24), (4,))).text == "resized from 4x32x32 to 8x24x24"
    )
    assert rule((1, 2049, 5), (1, 4097, 4), Fitting((16, 16, 16))) is None
    assert rule((1, 2050, 4), (1, 4097, 4), Fitting((16, 16, 16))) is None


def test_word_tables_are_cut_and_never_grown():
    start = table((7,))
    np.testing.assert_array_equal(first_rows((7, 3), (5, 3), Fitting()).apply(start), start[:5])
    assert first_rows((5, 3), (7, 3), Fitting()) is None
    assert first_rows((7, 2), (5, 3), Fitting()) is None


def test_only_single_taps_are_inflated():
    assert over_time((4, 3, 2, 2), (4, 3, 1, 2, 2), Fitting()).text == "inflated to 1 taps in time (centre)"
    assert over_time((4, 3, 2, 2, 2), (4, 3, 4, 2, 2), Fitting()) is None
    assert over_time((4, 3, 2), (4, 3, 1, 2, 2), Fitting()) is None
    assert over_time((4, 3, 3, 3), (4, 3, 1, 2, 2), Fitting()) is None


def test_frames_are_resized_as_tables_are():
    video = np.random.default_rng(0).normal(size=(2, 3, 8, 6, 3)).astype(np.float32)
    found = resize_frames(jnp.asarray(video), (10, 9))
    wanted = [resize_grid(clip.reshape(-1, 3), (3, 8, 6), (3, 10, 9)).reshape(3, 10, 9, 3) for clip in video]
    np.testing.assert_allclose(found, np.stack(wanted), rtol=1e-5, atol=1e-5)
    pixels = jnp.full((1, 1, 8, 6, 3), 128, jnp.uint8)
    small = resize_frames(pixels, (4, 4))
    np.testing.assert_allclose(small, standardise(pixels)[:, :, :4, :4], rtol=1e-5)
