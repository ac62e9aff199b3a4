"""Resizing of position tables."""

import numpy as np
import pytest

from ivjax.ops.resize import resize_grid


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
