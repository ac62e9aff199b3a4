"""Frame rules against tables of the originals; random ones keep to their ranges and reach both ends."""

import re

import numpy as np
import pytest

from ivjax.data_pipelines import sampling
from ivjax.data_pipelines.sampling import (
    ByDuration,
    Dense,
    Intervals,
    PerSecond,
    Segments,
    Spread,
    Stretched,
    Ticks,
    Within,
    indices,
)
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError
from tests.goldens import Golden

TABLES, STAGE1 = "frame_sampling_and_div_sampling", "stage1_frame_sampling"
STAGE2, STAGE3 = "stage2_data_rules", "s3_sampling_and_keep"


def golden_test(name):
    """Marks a test of a fixture, whose name stands in the test's id."""
    return lambda test: pytest.mark.golden(pytest.mark.parametrize("fixture", [name])(test))


def cases(golden, pattern):
    """(numbers in the key, values) of the outputs whose whole key fits; there must be some."""
    found = {re.fullmatch(pattern, key): tensor for key, tensor in golden.group("outputs").items()}
    kept = [(tuple(map(int, key.groups())), tensor.tolist()) for key, tensor in found.items() if key]
    assert kept
    return kept


def chosen(rule, length, fps=25.0, seed=0):
    return rule.choose(length, fps, np.random.default_rng(seed)).tolist()


def drawn(rule, length):
    rng = np.random.default_rng(1)
    return np.stack([rule.choose(length, 25.0, rng) for _ in range(400)])


def assert_ranges(draws, ranges):
    """Every draw lies in its range, and both ends of each short range come up."""
    ranges = np.asarray(ranges)
    assert (draws >= ranges[:, 0]).all() and (draws <= ranges[:, 1]).all()
    for column, (first, last) in zip(draws.T, ranges, strict=True):
        if last - first < 20:
            assert column.min() == first and column.max() == last


@golden_test(TABLES)
def test_intervals_follow_the_tables(fixture):
    for case in Golden(fixture).json["get_frame_indices"]:
        frames, length = case["num_frames"], case["vlen"]
        assert indices.interval_bounds(length, frames).tolist() == case["interval_bounds_inclusive"]
        assert chosen(Intervals(frames, "middle"), length) == case["middle"]
        for key in (key for key in case if key.startswith("fix_start_")):
            expected = np.minimum(case[key], length - 1).tolist()  # the originals may leave the clip
            assert chosen(Intervals(frames, "start", int(key[10:])), length) == expected
        draws = drawn(Intervals(frames, original_draw=True), length)
        if case["rand"]["branch"] == "per_interval":
            assert_ranges(draws, case["rand"]["draw_ranges_inclusive"])
        else:
            kept = draws[:, : min(frames, length)]
            assert (np.diff(kept) > 0).all() and set(kept.flat) == set(range(length))


def test_the_default_draw_reaches_the_last_frame_of_each_interval():
    assert_ranges(drawn(Intervals(4), 30), indices.interval_bounds(30, 4))
    assert chosen(Intervals(6), 1) == [0] * 6


@golden_test(TABLES)
def test_frames_per_second_follow_the_tables(fixture):
    for case in Golden(fixture).json["get_frame_indices_fps"]:
        rate, most = float(case["sample"].removeprefix("fps")), case["max_num_frames"]
        found = indices.per_second(case["vlen"], case["input_fps"], rate, most)
        assert found.tolist() == case["indices"]


def test_frames_per_second_fill_a_fixed_number():
    assert chosen(PerSecond(6, 1.0), 100) == [12, 38, 62, 88, 88, 88]
    assert chosen(PerSecond(3, 1.0), 5) == [2, 2, 2] and chosen(PerSecond(2), 1, fps=0.0) == [0, 0]
    assert chosen(PerSecond(2, 1.0), 200) == [12, 38]
    assert chosen(PerSecond(2, 1.0, longer="spread"), 200) == [38, 138]
    with pytest.raises(ClipError, match="no frame rate"):
        chosen(PerSecond(2), 10, fps=0.0)


@golden_test(STAGE2)
def test_stage_2_readers_follow_the_fixture(fixture):
    tables = Golden(fixture).json["cases"]
    for length, frames, expected in tables["av_get_index"]:
        assert chosen(Spread(frames, "middle"), length) == expected
    for case in tables["frame_indices"]:
        if case["kind"] == "middle":
            assert chosen(Intervals(case["num_frames"], "middle"), case["vlen"]) == case["out"]
        elif case["kind"] == "rand":
            bounds = indices.interval_bounds(case["vlen"], case["num_frames"])
            assert bounds.tolist() == case["intervals"]
        else:
            rate = float(case["kind"].removeprefix("fps"))
            for key in (key for key in case if key.startswith("out")):
                found = indices.per_second(case["vlen"], case["input_fps"], rate, int(key[7:] or 0))
                assert found.tolist() == case[key]


class _Extreme:
    """Draws the least or the most of every range."""

    def __init__(self, most):
        self.most = most

    def integers(self, stop, size=None):
        value = stop - 1 if self.most else 0
        return value if size is None else np.full(size, value)


def _steps(case):
    """Frames and step of one segment; with several segments each gives one frame."""
    return (1, 1) if case["num_segments"] > 1 else (case["new_length"], case["new_step"])


@golden_test(TABLES)
def test_videomae_readers_follow_the_tables(fixture):
    for case in Golden(fixture).json["videomae_style"]:
        length = case["total_frames"]
        for original, kind in ((False, "frame_ids_when_offsets"), (True, "internvideo_next_multi")):
            rule = Segments(case["num_segments"], *_steps(case), original_numbers=original)
            for most, end in ((False, "minimal"), (True, "maximal")):
                expected = np.asarray(case[f"{kind}_{end}"]) % length
                assert rule.choose(length, 25.0, _Extreme(most)).tolist() == expected.tolist()


@golden_test(TABLES)
def test_original_numbers_of_parts_follow_the_tables(fixture):
    """The released reader also takes the length of a part for the end of the file."""
    for case in Golden(fixture).json["videomae_style"]:
        steps, step = _steps(case)
        room = max(indices.segment_room(case["total_frames"], case["num_segments"], steps * step), 0)
        starts = room * np.arange(case["num_segments"])
        for key, expected in case.items():
            if found := re.fullmatch(r"internvideo_next_multi_start(\d+)_minimal", key):
                moved = starts + int(found[1])
                assert indices.walk(moved, steps, step, case["total_frames"], 0).tolist() == expected


@golden_test(TABLES)
def test_kinetics_and_part_readers_follow_the_tables(fixture):
    tables = Golden(fixture).json
    for case in tables["segment_start_get_index"]:
        assert chosen(Spread(case["num_segments"], "middle"), case["num_frames"]) == case["indices"]
    for case in tables["kinetics_sparse_get_seq_frames"]:
        frames, length = case["num_frames"], case["video_size"]
        if case["clip_idx"] == -1:
            assert indices.spread_bounds(length, frames).tolist() == case["train_bounds_inclusive"]
            assert_ranges(drawn(Spread(frames), length), case["train_bounds_inclusive"])
        elif case["mode"] == "validation":
            assert chosen(Spread(frames, "middle"), length) == case["indices"]
        else:
            rule = Spread(frames, "view", case["clip_idx"], case["test_num_segment"])
            assert chosen(rule, length) == case["indices"]


@golden_test(STAGE1)
def test_stage_1_training_and_validation_follow_the_fixture(fixture):
    golden = Golden(fixture)
    lengths = golden.config["lengths"]
    for (frames,), expected in cases(golden, r"sparse_train_bounds_f(\d+)"):
        assert [indices.spread_bounds(length, frames).tolist() for length in lengths] == expected
        for length, bounds in zip(lengths, expected, strict=True):
            assert_ranges(drawn(Spread(frames), length), bounds)
    for (frames,), expected in cases(golden, r"sparse_val_f(\d+)"):
        assert [chosen(Spread(frames, "middle"), length) for length in lengths] == expected
    for (frames,), expected in cases(golden, r"ssv2_raw_val_f(\d+)"):
        long = [length for length in lengths if length >= frames]
        assert [chosen(Ticks(frames, "middle"), length) for length in long] == expected


@golden_test(STAGE1)
def test_stage_1_views_follow_the_fixture(fixture):
    golden = Golden(fixture)

    def views(rule, count, *arguments, start=0):
        """(lengths, views, frames), of videos that have `start` frames before at one a second."""
        rules = [Within(rule(*arguments, view=view, views=count), start) for view in range(count)]
        return [[chosen(r, start + length, fps=1.0) for r in rules] for length in golden.config["lengths"]]

    for (frames, count), expected in cases(golden, r"sparse_test_f(\d+)_s(\d+)"):
        assert views(Spread, count, frames, "view") == expected
    for (start, frames, count), expected in cases(golden, r"interval_test_start(\d+)_f(\d+)_s(\d+)"):
        assert views(Spread, count, frames, "view", start=start) == expected
    for (frames, count, rate), expected in cases(golden, r"dense_test_f(\d+)_s(\d+)_rate(\d+)"):
        assert views(Dense, count, frames, rate) == expected
    for (frames, count), expected in cases(golden, r"ssv2_raw_test_f(\d+)_s(\d+)"):
        assert views(Ticks, count, frames, "view") == expected


@golden_test(STAGE3)
def test_stage_3_readers_follow_the_fixture(fixture):
    golden = Golden(fixture)
    met = []
    for (number,), expected in cases(golden, r"frame_indices/(\d+)"):
        asked = golden.config[f"frame_indices/{number}"]
        met.append(f"frame_indices/{number}")
        length, fps = asked["vlen"], asked.get("input_fps", 1)
        most, least = asked.get("max_num_frames", -1), asked.get("min_num_frames", 1)
        if asked["sample"].startswith("dynamic_fps"):
            limit = most if most > 0 else max(length, least)
            rule = ByDuration(limit, asked["local_num_frames"], least, lower=True)
            count = rule.count(length, fps)
            found = chosen(rule, length, fps)
            assert found[:count] == expected and set(found[count:]) <= {expected[-1]}
        elif asked["sample"] == "middle":
            start = asked.get("fix_start")
            frames = max(asked["num_frames"], min(least, length))
            rule = Intervals(frames, "middle" if start is None else "start", start or 0)
            # The originals may leave the clip.
            assert chosen(rule, length) == np.minimum(expected, length - 1).tolist()
        else:
            rate = float(asked["sample"].removeprefix("fps"))
            assert indices.per_second(length, fps, rate, most).tolist() == expected
    # Each case of the fixture is one that was read.
    assert sorted(met) == sorted(name for name in golden.config if name != "durations")


@golden_test(STAGE3)
def test_frames_by_duration_follow_the_fixture(fixture):
    golden = Golden(fixture)
    pattern = r"num_frames_by_duration/local(-?\d+)_min(\d+)_max(\d+)"
    for limits, expected in cases(golden, pattern):
        assert [indices.frames_for(seconds, *limits) for seconds in golden.config["durations"]] == expected


def test_internvideo25_reads_even_steps_at_test_and_middles_in_training():
    test, train, flash = sampling.INTERNVIDEO25_TEST, sampling.INTERNVIDEO25_TRAIN, sampling.VIDEOCHAT_FLASH
    found = chosen(test, 10_000)
    size = 9_999 / 400  # 400 seconds
    expected = [int(size / 2 + round(size * part)) for part in range(400)]
    assert test.count(10_000, 25.0) == 400 and found[:400] == expected
    assert set(found[400:]) == {expected[-1]} and len(found) == 512
    assert train.count(10_000, 25.0) == 256 and chosen(train, 10_000)[:3] == [19, 58, 97]
    assert train.count(100, 25.0) == 64 and flash.count(50, 25.0) == 48 and flash.count(2, 25.0) == 4


def test_a_part_of_a_clip_is_read_as_if_it_were_the_clip():
    rule = Intervals(4, "middle")
    assert chosen(Within(rule, 2.0, 6.0), 300) == [50 + place for place in chosen(rule, 100)]
    assert chosen(Within(rule, 0.0, 30.0), 300) == chosen(rule, 300)
    assert chosen(Within(rule, 100.0), 300) == [299] * 4
    assert chosen(Within(rule, 2.0, original_lazy=True), 300) == [50, 51, 52, 53]
    assert chosen(Within(rule, 0.0, original_lazy=True), 300) == chosen(rule, 300)


def test_random_readers_reach_their_ends():
    ticks = np.arange(4)[:, None] * 7
    assert_ranges(drawn(Ticks(4), 30), ticks + [0, 6])
    assert_ranges(drawn(Segments(4), 30), ticks + [0, 6])
    assert_ranges(drawn(Dense(4, 3), 30), np.arange(4)[:, None] * 3 + [0, 18])
    starts = drawn(Segments(8, 2, 4), 10)[:, ::2]  # more than one span long, but too short for parts
    assert (np.diff(starts) >= 0).all() and set(starts.flat) == {0, 1, 2}


RULES = [
    *(Intervals(7, pick, 1) for pick in ("random", "middle", "start")),
    Intervals(7, original_draw=True),
    *(PerSecond(7, 2.0, longer) for longer in ("cut", "spread")),
    *(Segments(*parts, original_numbers=bad) for parts in ((7,), (1, 7, 3)) for bad in (False, True)),
    *(Spread(7, pick, 1, 3) for pick in ("random", "middle", "view")),
    *(Dense(7, 3, view, 2) for view in (None, 0, 1)),
    *(Ticks(7, pick, 1, 3) for pick in ("random", "middle", "view")),
    *(ByDuration(7, 2, 4, pick, lower) for pick in ("middle", "even") for lower in (False, True)),
    Within(Intervals(7), 0.5, 2.0),
    Within(Spread(7), 3.0),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_whatever_the_clip_the_frames_are_inside_and_as_many_as_said(rule):
    for length in (1, 2, 3, 6, 7, 8, 20, 21, 100, 1001):
        for seed in range(5):
            found = np.asarray(chosen(rule, length, fps=12.5, seed=seed))
            assert len(found) == rule.frames and found.min() >= 0 and found.max() < length
            assert found.tolist() == chosen(rule, length, fps=12.5, seed=seed)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Spread(4, "view", 3, 3), "view=3 of views=3"),
        (lambda: Intervals(0), "frames=0; it must be above 0"),
        (lambda: PerSecond(4, -1.0), "rate=-1"),
        (lambda: ByDuration(8, least=9), "least=9, but room for frames=8"),
        (lambda: Within(Intervals(4), 3.0, 2.0), "start=3 and end=2"),
    ],
)
def test_what_cannot_be_read_is_an_error(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_ucf101_windows_count_both_ends():
    """linspace(start, start + 64, 16) rounded down, below start + 64; start < length - 64."""
    steps = [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]
    assert chosen(Stretched(16, 4, "middle"), 100) == [18 + step for step in steps]
    assert Stretched(16, 4).choose(100, 25.0, _Extreme(False)).tolist() == steps
    assert Stretched(16, 4).choose(100, 25.0, _Extreme(True)).tolist() == [35 + step for step in steps]
    starts = drawn(Stretched(16, 4), 70)[:, 0]
    assert set(starts.tolist()) == set(range(6))


@pytest.mark.parametrize(
    ("length", "expected"),
    [(16, [0, 5, 10, 15]), (10, [0, 9, 9, 9]), (9, [0, 8, 8, 8]), (4, [0, 3, 3, 3]), (1, [0] * 4)],
)
def test_ucf101_windows_longer_than_the_clip_end_with_its_last_frame(length, expected):
    """linspace(0, length, length // 4), then the last frame."""
    assert chosen(Stretched(4, 4), length) == expected


def test_short_clips_are_filled_up_in_front_or_at_the_end():
    for pick in ("random", "middle"):
        assert chosen(Ticks(6, pick), 4) == [0, 1, 2, 3, 3, 3]
        assert chosen(Ticks(6, pick, short="repeat_first"), 4) == [0, 0, 0, 1, 2, 3]
        assert chosen(Ticks(3, pick, short="repeat_first"), 3) == [0, 1, 2]
    long = Ticks(4, short="repeat_first"), Ticks(4)
    assert chosen(long[0], 30) == chosen(long[1], 30)
