"""Crops inside frames, and pixel operations with known results."""

import numpy as np
import pytest

from ivjax.data_pipelines.augment import affine, colour, geometry, pixels, value_tables
from ivjax.data_pipelines.augment.randaugment import OPERATIONS, RandAugment
from ivjax.data_pipelines.augment.recipe import FINETUNE, PROBE, TEST, Augment
from ivjax.errors import UserError
from ivjax.experiment.overrides import apply_overrides
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
@pytest.mark.parametrize("fixture", ["stage1_frame_sampling"])
def test_multi_scale_crops_follow_the_fixture(fixture):
    golden = Golden(fixture)
    numbers = [key.removeprefix("multiscale_") for key in golden.config if key.startswith("multiscale_")]
    assert numbers
    for number in numbers:
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
    with pytest.raises(UserError, match="crop.scale="):
        geometry.RandomResizedCrop(scale=(0.5, 1.5))


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


@pytest.mark.parametrize("name", Augment.PRESETS)
def test_the_same_random_numbers_give_the_same_clip_and_leave_the_old_one(name):
    before, augment = VIDEO.copy(), Augment.PRESETS[name]
    for seed in range(20):
        one, two = augment.pixels(VIDEO, rng(seed)), augment.pixels(VIDEO, rng(seed))
        assert one.shape == VIDEO.shape and one.dtype == np.uint8
        np.testing.assert_array_equal(one, two)
        assert augment.box(320, 240, rng(seed)) == augment.box(320, 240, rng(seed))
    np.testing.assert_array_equal(VIDEO, before)


def test_augmentation_without_changes_gives_back_the_same_array():
    assert TEST.pixels(VIDEO, rng()) is VIDEO


def test_presets_can_be_chosen_by_name():
    chosen = apply_overrides(TEST, ["rand=rand-m5-n2-mstd0.25-inc1", "flip=0.25"])
    assert (chosen.rand, chosen.flip) == (PROBE.rand, 0.25)
    with pytest.raises(UserError, match="augment.flip=2"):
        Augment(flip=2.0)


def test_equalize_evens_out_a_small_case():
    plane = np.array([[0, 0, 1, 1], [2, 2, 3, 3]] * 96, np.uint8)  # 768 pixels: step (768 - 192) // 255 = 2
    video = np.repeat(plane[None, ..., None], 3, -1)
    found = value_tables.equalize(video)
    assert {value: found[video == value][0] for value in range(4)} == {0: 0, 1: 96, 2: 192, 3: 255}
    flat = np.full((1, 8, 8, 3), 7, np.uint8)
    np.testing.assert_array_equal(value_tables.equalize(flat), flat)
    np.testing.assert_array_equal(value_tables.auto_contrast(flat), flat)


@pytest.mark.parametrize("change", [value_tables.equalize, value_tables.auto_contrast])
def test_channels_and_frames_are_spread_by_themselves(change):
    shade = np.array([1, 2, 3], np.uint8)[:, None, None, None] * np.array([10, 20, 40], np.uint8)
    video = (VIDEO // 4 + shade).astype(np.uint8)
    found = change(video)
    # image libraries cut fractions off, so that 254.999... stays 254
    assert (found.min((1, 2)) == 0).all() and (found.max((1, 2)) >= 254).all()
    for frame in range(3):
        for channel in range(3):
            alone = np.repeat(video[frame : frame + 1, ..., channel : channel + 1], 3, -1)
            np.testing.assert_array_equal(change(alone)[0, ..., 0], found[frame, ..., channel])


def test_auto_contrast_keeps_the_order_of_values():
    video = (VIDEO // 4 + 60).astype(np.uint8)
    order = np.argsort(video[0, ..., 0], axis=None, kind="stable")
    assert (np.diff(value_tables.auto_contrast(video)[0, ..., 0].reshape(-1)[order].astype(int)) >= 0).all()


def test_operations_on_single_values_follow_their_tables():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    results = {
        ("invert", 1.0): 255 - ramp,
        ("posterize", 0.0): ramp & 0xF0,
        ("posterize", 0.5): ramp & 0xC0,
        ("posterize", 1.0): ramp & 0,
        ("solarize", 0.0): ramp,
        ("solarize", 0.5): np.where(ramp < 128, ramp, 255 - ramp),
        ("solarize_add", 0.5): np.where(ramp < 128, ramp + 55, ramp),
        ("brightness", 0.5): np.minimum(ramp * 1.45, 255).astype(np.uint8),
    }
    for (name, level), expected in results.items():
        np.testing.assert_array_equal(OPERATIONS[name](ramp, level, 1.0), expected, err_msg=name)


def test_affine_identity_shifts_and_quarter_turns_are_exact():
    np.testing.assert_array_equal(affine.affine(VIDEO, ((1, 0, 0), (0, 1, 0))), VIDEO)
    shifted = affine.affine(VIDEO, ((1, 0, 5), (0, 1, -2)))
    np.testing.assert_array_equal(shifted[:, 2:, :-5], VIDEO[:, :-2, 5:])
    assert (shifted[:, :, -5:] == 128).all() and (shifted[:, :2] == 128).all()
    square = VIDEO[:, :, :24]
    np.testing.assert_array_equal(affine.rotate(square, 90.0), np.rot90(square, 1, (1, 2)))
    np.testing.assert_array_equal(affine.translate_x(VIDEO, 0.25)[:, :, :-8], VIDEO[:, :, 8:])
    np.testing.assert_array_equal(affine.translate_y(VIDEO, -0.25)[:, 6:], VIDEO[:, :-6])


def test_values_between_pixels_are_cubic():
    before, left, right, after = (VIDEO[:, :, n : n + 29].astype(float) for n in range(4))
    expected = np.clip(0.625 * (left + right) - 0.125 * (before + after), 0, 255)
    for video, matrix, axis in (
        (VIDEO, ((1, 0, 0.5), (0, 1, 0)), 2),
        (VIDEO.transpose(0, 2, 1, 3), ((1, 0, 0), (0, 1, 0.5)), 1),
    ):
        found = np.moveaxis(affine.affine(video, matrix), axis, 2)[:, :, 1:30]
        assert np.abs(found - expected).max() <= 0.5


def test_shears_slide_rows_and_columns_by_their_distance_from_the_corner():
    for y in (3, 10):  # a slope of 2 moves the middle of row y by 2 y + 1
        sheared = affine.shear_x(VIDEO, 2.0)[:, y]
        np.testing.assert_array_equal(sheared[:, : 31 - 2 * y], VIDEO[:, y, 2 * y + 1 :])
    sheared = affine.shear_y(VIDEO, -2.0)[:, :, 4]
    np.testing.assert_array_equal(sheared[:, 9:], VIDEO[:, :15, 4])
    assert (sheared[:, :9] == 128).all()


@pytest.mark.parametrize("change", [value_tables.brighten, colour.contrast, colour.saturate, colour.sharpen])
def test_factor_one_changes_nothing(change):
    np.testing.assert_array_equal(change(VIDEO, 1.0), VIDEO)


def test_colour_changes_at_their_ends():
    grey = colour.luma(VIDEO)
    exact = (VIDEO.astype(np.int64) @ (19595, 38470, 7471) + 2**15) >> 16
    np.testing.assert_array_equal(grey, exact)
    np.testing.assert_array_equal(colour.saturate(VIDEO, 0.0), np.repeat(grey[..., None], 3, -1))
    assert (value_tables.brighten(VIDEO, 0.0) == 0).all()
    flat = colour.contrast(VIDEO, 0.0)
    assert all(np.abs(flat[f].astype(int) - grey[f].mean()).max() <= 0.5 for f in range(3))
    smooth = colour.sharpen(VIDEO, 0.0)
    cell = VIDEO[1, 4:7, 8:11].astype(float)
    np.testing.assert_array_equal(smooth[1, 5, 9], np.floor((cell.sum((0, 1)) + 4 * cell[1, 1]) / 13 + 0.5))
    np.testing.assert_array_equal(smooth[:, :, 0], VIDEO[:, :, 0])


def test_hues_turn_in_a_circle():
    np.testing.assert_array_equal(colour.turn_hue(VIDEO, 1.0), VIDEO)
    np.testing.assert_array_equal(colour.turn_hue(VIDEO, 1 / 3), VIDEO[..., [2, 0, 1]])
    back = colour.turn_hue(colour.turn_hue(VIDEO, 0.1), -0.1).astype(int)
    assert np.abs(back - VIDEO).max() <= 2


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


def test_erasing_noise_is_normal_once_normalised():
    noise = pixels.Erasing(1.0, (0.9, 0.9), (1.0, 1.0)).apply(np.zeros((4, 90, 90, 3), np.uint8), rng(1))
    inside = noise[:, 20:70, 20:70] / 255
    np.testing.assert_allclose(inside.mean((0, 1, 2)), (0.485, 0.456, 0.406), atol=0.01)
    np.testing.assert_allclose(inside.std((0, 1, 2)), (0.229, 0.224, 0.225), atol=0.02)


def test_randaugment_is_read_from_its_name():
    assert RandAugment.parse("rand-m7-n4-mstd0.5-inc1") == FINETUNE.rand == RandAugment(7.0, 4, 0.5)
    for text in ("rand-m7-w0", "rand-m7-n4", "mix-m7-inc1", "rand-m-inc1", "rand-m11-inc1"):
        with pytest.raises(UserError):
            RandAugment.parse(text)


def test_randaugment_does_one_thing_to_all_frames():
    assert len(OPERATIONS) == 15
    never = RandAugment(probability=0.0)
    assert never.apply(VIDEO, rng()) is VIDEO
    still = np.repeat(VIDEO[:1] // 2 + 30, 3, 0)
    for name, operation in OPERATIONS.items():
        found = operation(still, 0.7, -1.0)
        assert (found == found[:1]).all() and found.dtype == np.uint8 and (found != still).any(), name


def test_erasing_fills_boxes_with_noise_a_colour_or_the_mean():
    grey = np.zeros((2, 40, 40, 3), np.uint8)

    def colours(frame):
        return {tuple(pixel) for pixel in frame.reshape(-1, 3)} - {(0, 0, 0)}

    noise, colour, mean = (
        pixels.Erasing(1.0, (0.3, 0.3), fill=fill).apply(grey, rng(1)) for fill in ("noise", "colour", "mean")
    )
    assert len(colours(noise[0])) > 100 and (noise[0] != noise[1]).any()
    assert len(colours(colour[0])) == len(colours(colour[1])) == 1 and colours(colour[0]) != colours(
        colour[1]
    )
    assert colours(mean[0]) == colours(mean[1]) == {(124, 116, 104)}
    boxes = pixels.Erasing(1.0, (0.3, 0.3), (1.0, 1.0), fill="mean", boxes=5).apply(grey, rng(3))
    assert 0.15 < (boxes[0] != 0).all(-1).mean() < 0.31
    with pytest.raises(UserError, match="erase.boxes=0"):
        pixels.Erasing(boxes=0)
