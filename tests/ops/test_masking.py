"""Masks: the tokens that stay visible."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.ops.masking import draw_tube, draw_visible, gather_tokens, visible_count
from ivjax.ops.randomness import exponential, sample_keys
from tests.goldens import Golden


@pytest.mark.golden
def test_stage1_attn_mask_draws_the_originals_masks():
    golden = Golden("stage1_attn_mask")
    batch = golden.config["B"]
    ratios = [name for name in golden.config if "_r" in name]
    assert len(ratios) >= 2
    for name in ratios:
        rows, number = name.rsplit("_r", 1)
        attention, noise = (
            jnp.asarray(golden[f"inputs/{rows}_{kind}"]).reshape(
                batch, -1, golden[f"inputs/{rows}_attn"].shape[-1]
            )
            for kind in ("attn", "exp_noise")
        )
        visible = draw_visible(attention, noise, golden.config[name]["mask_ratio"])
        np.testing.assert_array_equal(visible, golden[f"outputs/{rows}_visible_index_r{number}"])
        mask = np.ones(golden[f"outputs/{rows}_mask_r{number}"].shape, bool)
        np.put_along_axis(mask, np.asarray(visible), False, axis=1)
        np.testing.assert_array_equal(mask, golden[f"outputs/{rows}_mask_r{number}"])


@pytest.mark.parametrize(
    "patches, ratio, count", [(256, 0.8, 52), (2048, 0.8, 410), (16, 0.75, 4), (9, 0.0, 9)]
)
def test_visible_count_is_what_the_ratio_leaves(patches, ratio, count):
    assert visible_count(patches, ratio) == count


def keys(count):
    return sample_keys(jax.random.key(0), jnp.arange(count), "mask")


def test_a_tube_shows_the_same_patches_in_every_frame():
    visible = np.asarray(draw_tube(exponential(keys(3), (16,)), frames=4, ratio=0.75))
    assert visible.shape == (3, 1 + 4 * 4) and (visible[:, 0] == 0).all()
    patches = (visible[:, 1:] - 1).reshape(3, 4, 4)
    np.testing.assert_array_equal(patches - 16 * np.arange(4)[:, None], patches[:, :1].repeat(4, 1))
    assert len({row.tobytes() for row in patches}) == 3


def test_heavier_patches_stay_visible_more_often():
    weights = jnp.ones((500, 1, 16)).at[:, :, 3].set(10.0)
    visible = np.asarray(draw_visible(weights, exponential(keys(500), (1, 16)), 0.75))
    share = [(visible == patch + 1).any(1).mean() for patch in range(16)]
    assert share[3] > 0.75 and max(np.delete(share, 3)) < 0.35


def test_gather_takes_the_named_tokens():
    x = jnp.arange(24.0).reshape(2, 4, 3)
    taken = gather_tokens(x, jnp.array([[0, 2], [1, 3]]))
    np.testing.assert_array_equal(taken, [[x[0, 0], x[0, 2]], [x[1, 1], x[1, 3]]])


@pytest.mark.golden
def test_stage2_data_rules_masks_leave_as_many_tokens():
    golden = Golden("stage2_data_rules")
    (times, rows, columns), ratio = golden.config["mask_window"], golden.config["mask_ratio"]
    tube, scattered = golden["outputs/tube_mask"], golden["outputs/random_mask"]
    seen = draw_tube(exponential(keys(len(tube)), (rows * columns,)), times, ratio)
    np.testing.assert_array_equal((tube == 0).sum(1), seen.shape[1] - 1)
    frames = tube.reshape(len(tube), times, -1)
    np.testing.assert_array_equal(frames, frames[:, :1].repeat(times, 1))
    noise = exponential(keys(len(scattered)), (1, times * rows * columns))
    seen = draw_visible(jnp.ones_like(noise), noise, ratio)
    np.testing.assert_array_equal((scattered == 0).sum(1), seen.shape[1] - 1)
