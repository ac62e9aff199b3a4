"""Draws are a function of seed, sample and purpose."""

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.ops.randomness import drop_path, exponential, sample_keys

KEY = jax.random.key(0)


def test_a_draw_depends_on_seed_sample_and_purpose_only():
    index = jnp.array([4, 9, 2])
    draws = exponential(sample_keys(KEY, index, "mask"), (5,))
    moved = exponential(sample_keys(KEY, index[::-1], "mask"), (5,))
    np.testing.assert_array_equal(draws, moved[::-1])
    for other in (
        sample_keys(KEY, index, "drop_path"),
        sample_keys(KEY, index + 1, "mask"),
        sample_keys(jax.random.key(1), index, "mask"),
    ):
        assert not np.any(np.asarray(exponential(other, (5,))) == np.asarray(draws))


def test_drop_path_keeps_the_mean_and_rises_with_depth():
    assert drop_path(sample_keys(KEY, jnp.arange(4), "drop_path"), 0.0, 3) is None
    keep = np.asarray(drop_path(sample_keys(KEY, jnp.arange(4000), "drop_path"), 0.5, 3))
    assert keep.shape == (3, 2, 4000)
    for layer, rate in enumerate((0.0, 0.25, 0.5)):
        np.testing.assert_allclose(np.unique(keep[layer]), [0.0, 1 / (1 - rate)][rate == 0 :], rtol=1e-6)
        np.testing.assert_allclose(keep[layer].mean(1), 1.0, atol=0.06)
