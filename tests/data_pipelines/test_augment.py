"""Crops inside frames, pixel operations with known results, soft targets that sum to one."""

import numpy as np
import pytest

from ivjax.data_pipelines.augment import geometry, pixels, randaugment
from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.augment.recipe import FINETUNE, TEST, TRAIN_STAGE1, TRAIN_STAGE2, Augment
from ivjax.errors import UserError
from tests.goldens import Golden

VIDEO = np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3)).astype(np.uint8)
CROPS = [
    geometry.Whole(),
    geometry.View(),
    geometry.View(2, 3),
    geometry.RandomResizedCrop(),
    geometry.RandomResizedCrop((0.08, 1.0)),
    geometry.MultiScaleCrop(),
]


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.golden
def test_multi_scale_crops_follow_the_fixture():
    golden = Golden("stage1_frame_sampling")
    for number in range(3):
        asked = golden.config[f"multiscale_{number}"]
        width, height = asked["image_w"], asked["image_h"]
        pairs = geometry.crop_pairs(width, height, asked["input_size"])
        assert pairs == [tuple(pair) for pair in golden[f"outputs/multiscale_pairs_{number}"].tolist()]
        found = [geometry.anchors(width, height, *pair) for pair in pairs]
        np.testing.assert_array_equal(found, golden[f"outputs/multiscale_offsets_{number}"])


@pytest.mark.parametrize("crop", CROPS, ids=str)
def test_boxes_lie_inside_frames_of_any_size(crop):
    draw = rng()
    for width, height in ((320, 240), (240, 320), (224, 224), (222, 500), (17, 900), (3, 2), (1, 1)):
        for _ in range(40):
            box = crop.box(width, height, draw)
            assert box.x >= 0 and box.x + box.width <= width and box.width > 0
            assert box.y >= 0 and box.y + box.height <= height and box.height > 0


def test_random_crops_keep_to_area_and_ratio():
    draw, crop = rng(), geometry.RandomResizedCrop((0.3, 0.6))
    boxes = [crop.box(400, 300, draw) for _ in range(500)]
    areas = np.array([b.width * b.height / 120_000 for b in boxes])
    ratios = np.array([b.width / b.height for b in boxes])
    assert 0.295 < areas.min() < 0.32 and 0.58 < areas.max() < 0.605
    assert 0.74 < ratios.min() < 0.78 and 1.28 < ratios.max() < 1.35
    wide = geometry.RandomResizedCrop((0.9, 1.0)).box(900, 100, draw)
    assert (wide.width, wide.height, wide.x) == (133, 100, 383)


def test_views_walk_along_the_longer_side():
    assert [geometry.View(n, 3).box(340, 256, rng())[:2] for n in range(3)] == [(0, 0), (42, 0), (84, 0)]
    assert geometry.View().box(256, 341, rng()) == (0, 42, 256, 256)
    with pytest.raises(UserError, match="crop view 3 of 3"):
        geometry.View(3, 3)


def test_flips_are_mirrors_and_come_half_the_time():
    augment = Augment(flip=0.5)
    found = [augment.pixels(VIDEO, rng(seed)) for seed in range(200)]
    mirrored = [(video == VIDEO[:, :, ::-1]).all() for video in found]
    assert 70 < sum(mirrored) < 130
    assert all((video == VIDEO).all() for video, flipped in zip(found, mirrored, strict=True) if not flipped)


@pytest.mark.parametrize("augment", [TEST, TRAIN_STAGE1, TRAIN_STAGE2, FINETUNE], ids=["t", "1", "2", "f"])
def test_the_same_random_numbers_give_the_same_clip(augment):
    for seed in range(20):
        one, two = augment.pixels(VIDEO, rng(seed)), augment.pixels(VIDEO, rng(seed))
        assert one.shape == VIDEO.shape and one.dtype == np.uint8
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(TEST.pixels(VIDEO, rng()), VIDEO)


def test_equalize_evens_out_a_small_case():
    plane = np.array([[0, 0, 1, 1], [2, 2, 3, 3]] * 96, np.uint8)  # 768 pixels: step (768 - 192) // 255 = 2
    video = np.repeat(plane[None, ..., None], 3, -1)
    found = randaugment.equalize(video, 0.5, 1.0)
    assert {value: found[video == value][0] for value in range(4)} == {0: 0, 1: 96, 2: 192, 3: 255}
    flat = np.full((1, 8, 8, 3), 7, np.uint8)
    np.testing.assert_array_equal(randaugment.equalize(flat, 0.5, 1.0), flat)


def test_auto_contrast_stretches_to_the_ends():
    video = (VIDEO // 4 + 60).astype(np.uint8)
    found = randaugment.auto_contrast(video, 0.5, 1.0)
    assert (found.min((1, 2)) == 0).all() and (found.max((1, 2)) == 255).all()
    order = np.argsort(video[0, ..., 0], axis=None, kind="stable")
    assert (np.diff(found[0, ..., 0].reshape(-1)[order].astype(int)) >= 0).all()


def test_tables_of_single_values():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    assert (randaugment.invert(ramp, 1, 1) == 255 - ramp).all()
    assert (randaugment.posterize(ramp, 0.0, 1) == ramp & 0xF0).all()
    assert (randaugment.posterize(ramp, 0.5, 1) == ramp & 0xC0).all()
    assert (randaugment.solarize(ramp, 0.5, 1) == np.where(ramp < 128, ramp, 255 - ramp)).all()
    assert (randaugment.solarize_add(ramp, 0.5, 1) == np.where(ramp < 128, ramp + 55, ramp)).all()


def test_affine_identity_shift_and_quarter_turn():
    np.testing.assert_array_equal(randaugment.affine(VIDEO, ((1, 0, 0), (0, 1, 0))), VIDEO)
    shifted = randaugment.affine(VIDEO, ((1, 0, 5), (0, 1, 0)))
    np.testing.assert_array_equal(shifted[:, :, :-5], VIDEO[:, :, 5:])
    assert (shifted[:, :, -5:] == 128).all()
    half = randaugment.affine(VIDEO, ((1, 0, 0.5), (0, 1, 0)))[:, :, :-1].astype(int)
    middle = (VIDEO[:, :, :-1].astype(int) + VIDEO[:, :, 1:]) / 2
    assert np.abs(half - middle).max() <= 0.5
    square = VIDEO[:, :, :24]
    turned = randaugment.rotate(square, 3.0, 1.0)  # level 3 of 30 degrees
    np.testing.assert_array_equal(turned, np.rot90(square, 1, (1, 2)))


def test_shears_keep_the_first_row_or_column():
    assert (randaugment.shear_x(VIDEO, 0.7, 1.0)[:, 0] == VIDEO[:, 0]).all()
    assert (randaugment.shear_y(VIDEO, 0.7, -1.0)[:, :, 0] == VIDEO[:, :, 0]).all()
    row = randaugment.shear_x(VIDEO, 1.0, 1.0)[:, 10, :-3]
    np.testing.assert_array_equal(row, VIDEO[:, 10, 3:])


@pytest.mark.parametrize("change", [pixels.brighten, pixels.contrast, pixels.saturate, pixels.sharpen])
def test_factor_one_changes_nothing(change):
    np.testing.assert_array_equal(change(VIDEO, 1.0), VIDEO)


def test_colour_changes_at_their_ends():
    grey = pixels.luma(VIDEO)
    np.testing.assert_array_equal(pixels.saturate(VIDEO, 0.0), np.repeat(grey[..., None], 3, -1))
    assert (pixels.brighten(VIDEO, 0.0) == 0).all()
    flat = pixels.contrast(VIDEO, 0.0)
    assert all(np.abs(flat[f].astype(int) - grey[f].mean()).max() <= 0.5 for f in range(3))
    np.testing.assert_array_equal(pixels.turn_hue(VIDEO, 1.0), VIDEO)
    third = pixels.turn_hue(VIDEO, 1 / 3)
    np.testing.assert_array_equal(third, VIDEO[..., [2, 0, 1]])
    smooth = pixels.sharpen(np.full((1, 9, 9, 3), 77, np.uint8), 0.3)
    assert (smooth == 77).all()


def test_jitter_leaves_grey_grey_and_stays_in_its_ranges():
    greys = np.repeat(VIDEO[..., :1], 3, -1)
    jittered = pixels.ColourJitter(0.4, 0.4, 0.4, 0.1).apply(greys, rng(3))
    assert np.ptp(jittered.astype(int), axis=-1).max() <= 1
    bright = [
        pixels.ColourJitter(0.2, 0, 0).apply(np.full((1, 2, 2, 3), 100, np.uint8), rng(s)) for s in range(200)
    ]
    means = [video.mean() for video in bright]
    assert 79 <= min(means) < 84 and 116 < max(means) <= 120


def test_erasing_replaces_one_box_of_all_frames_by_different_noise():
    shares, count = [], 0
    for seed in range(200):
        video = np.full((3, 40, 40, 3), 255, np.uint8)
        changed = (pixels.Erasing().apply(video, rng(seed)) != 255).all(-1)
        count += changed.any()
        if changed.any():
            rows, columns = changed.any((0, 2)), changed.any((0, 1))
            assert rows.sum() == np.ptp(np.flatnonzero(rows)) + 1
            shares.append(rows.sum() * columns.sum() / 1600)
    assert 25 < count < 80 and min(shares) > 0.01 and max(shares) < 0.37
    erased = pixels.Erasing(1.0, (0.3, 0.3)).apply(np.zeros((2, 40, 40, 3), np.uint8), rng(1))
    assert (erased[0] != erased[1]).any()


def test_randaugment_draws_as_written():
    parsed = randaugment.RandAugment.parse("rand-m7-n4-mstd0.5-inc1")
    assert parsed == FINETUNE.rand == randaugment.RandAugment(7.0, 4, 0.5)
    with pytest.raises(UserError, match="rand-m7-w0 .*not understood|'rand-m7-w0' is not understood"):
        randaugment.RandAugment.parse("rand-m7-w0")
    assert len(randaugment.OPERATIONS) == 15
    never = randaugment.RandAugment(probability=0.0)
    np.testing.assert_array_equal(never.apply(VIDEO, rng()), VIDEO)
    still = np.repeat(VIDEO[:1], 3, 0)
    for seed in range(30):
        found = parsed.apply(still, rng(seed))
        assert (found == found[:1]).all()


def test_mixed_targets_sum_to_one_and_follow_the_pixels():
    video = np.zeros((4, 2, 30, 30, 3), np.uint8)
    video[:] = np.array([0, 80, 160, 240], np.uint8)[:, None, None, None, None]
    labels = np.array([0, 1, 2, 3])
    mix = Mix(classes=5, smoothing=0.1)
    kinds = set()
    for seed in range(40):
        mixed, targets = mix.apply(video, labels, rng(seed))
        np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-5)
        kept = (targets[0, 0] - 0.02) / 0.9
        np.testing.assert_allclose((targets[0, 3] - 0.02) / 0.9, 1 - kept, atol=1e-5)
        assert abs(mixed[0].mean() - (1 - kept) * 240) < 1
        kinds.add(len(np.unique(mixed[0])) == 2)
    assert kinds == {True, False}


def test_mixing_wants_pairs_and_known_labels():
    video = np.zeros((3, 1, 4, 4, 3), np.uint8)
    with pytest.raises(UserError, match="even number of rows"):
        Mix(2).apply(video, np.zeros(3, int), rng())
    with pytest.raises(UserError, match="mix.classes=2"):
        Mix(2).apply(video[:2], np.array([0, 2]), rng())
    same, targets = Mix(2, probability=0.0, smoothing=0.0).apply(video[:2], np.array([0, 1]), rng())
    assert (same == video[:2]).all() and targets.tolist() == [[1, 0], [0, 1]]
