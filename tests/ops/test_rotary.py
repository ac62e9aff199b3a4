"""Rotary positions: turns, and the frequencies of each scaling."""

import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.ops import rotary

WIDTH, BASE = 16, 10000.0


def test_a_channel_and_the_one_half_the_width_further_on_turn_together():
    x = np.random.default_rng(0).normal(size=(1, 3, 2, 4)).astype("f")
    angles = jnp.asarray(np.array([[0.0, 0.0], [0.5, 1.0], [2.0, -3.0]], "f"))[None]
    turned = rotary.rotate(x, jnp.cos(angles), jnp.sin(angles))
    pairs = x[..., :2] + 1j * x[..., 2:]
    wanted = pairs * np.exp(1j * np.asarray(angles))[:, :, None]
    np.testing.assert_allclose(
        turned[..., :2] + 1j * np.asarray(turned[..., 2:]), wanted, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(turned[:, 0], x[:, 0])


def test_products_of_queries_and_keys_depend_on_their_distance_alone():
    q, k = np.random.default_rng(0).normal(size=(2, 1, 1, 1, WIDTH)).astype("f")
    frequencies = rotary.plain_frequencies(WIDTH, BASE)

    def product(here, there):
        turned = [
            rotary.rotate(
                x, jnp.cos(place * frequencies)[None, None], jnp.sin(place * frequencies)[None, None]
            )
            for x, place in ((q, here), (k, there))
        ]
        return jnp.sum(turned[0] * turned[1])

    np.testing.assert_allclose(product(7, 3), product(1004, 1000), rtol=1e-4)


def test_a_turn_keeps_the_dtype():
    x = jnp.ones((1, 1, 1, 4), jnp.bfloat16)
    assert rotary.rotate(x, jnp.ones((1, 1, 2)), jnp.zeros((1, 1, 2))).dtype == jnp.bfloat16


@pytest.mark.parametrize("length, times", [(1, 1.0), (100, 1.0), (101, 1.02), (150, 2.0), (400, 7.0)])
def test_dynamic_frequencies_stay_up_to_the_trained_length_and_then_slow_down(length, times):
    found = rotary.dynamic_frequencies(WIDTH, BASE, 2.0, 100, jnp.float32(length))
    base = BASE * times ** (WIDTH / (WIDTH - 2))
    np.testing.assert_allclose(found, base ** (-np.arange(0, WIDTH, 2) / WIDTH), rtol=1e-5)


def test_dynamic_frequencies_of_very_long_texts_are_finite():
    found = rotary.dynamic_frequencies(128, 1e6, 2.0, 32768, jnp.float32(1e7))
    assert np.all(np.isfinite(found)) and np.all(np.diff(found) < 0)


def test_yarn_keeps_fast_channels_and_slows_slow_ones_down():
    kept = rotary.plain_frequencies(128, 1e6)
    found = rotary.yarn_frequencies(128, 1e6, 4.0, 32768)
    turns = kept * 32768 / (2 * np.pi)
    # The ramp ends at whole channels, so the nearest ones to its ends may be on either side.
    np.testing.assert_allclose(found[turns > 40], kept[turns > 40], rtol=1e-6)
    np.testing.assert_allclose(found[turns < 0.7], kept[turns < 0.7] / 4, rtol=1e-6)
    between = (turns < 30) & (turns > 1.5)
    assert np.all((found < kept)[between] & (found > kept / 4)[between])


def test_magnitudes_grow_with_the_logarithm_of_the_scaling():
    assert rotary.yarn_magnitude(1.0) == 1.0
    np.testing.assert_allclose(rotary.yarn_magnitude(4.0), 1.1386294)
    assert rotary.long_rope_magnitude(4096, 4096) == 1.0
    np.testing.assert_allclose(rotary.long_rope_magnitude(131072, 4096), 1.1902380714)
