"""Frame rules against tables of the originals; random ones keep to their ranges and reach both ends."""

import re

import numpy as np
import pytest

from ivjax.data_pipelines.sampling import (
    ByDuration,
    Dense,
    Intervals,
    PerSecond,
    Segments,
    Spread,
    Ticks,
    indices,
)
from ivjax.errors import UserError
from tests.goldens import Golden

DRAWS = 400
pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def tables():
    return Golden("frame_sampling_and_div_sampling").json


@pytest.fixture(scope="module")
def stage1():
    return Golden("stage1_frame_sampling")


def chosen(rule, length, fps=25.0, seed=0):
    return rule.choose(length, fps, np.random.default_rng(seed)).tolist()


def drawn(rule, length):
    rng = np.random.default_rng(1)
    return np.stack([rule.choose(length, 25.0, rng) for _ in range(DRAWS)])


def assert_ranges(draws, ranges):
    """Every draw lies in its range, and both ends of each short range come up."""
    ranges = np.asarray(ranges)
    assert (draws >= ranges[:, 0]).all() and (draws <= ranges[:, 1]).all()
    for column, (first, last) in zip(draws.T, ranges, strict=True):
        if last - first < 40:
            assert column.min() == first and column.max() == last


def test_intervals_follow_the_tables(tables):
    for case in tables["get_frame_indices"]:
        frames, length = case["num_frames"], case["vlen"]
        assert indices.interval_bounds(length, frames).tolist() == case["interval_bounds_inclusive"]
        assert chosen(Intervals(frames, "middle"), length) == case["middle"]
        for shift in (0, 1):
            expected = np.minimum(case[f"fix_start_{shift}"], length - 1).tolist()
            assert chosen(Intervals(frames, "start", shift), length) == expected
        draws = drawn(Intervals(frames, original_draw=True), length)
        if case["rand"]["branch"] == "per_interval":
            assert_ranges(draws, case["rand"]["draw_ranges_inclusive"])
        else:
            kept = draws[:, : min(frames, length)]
            assert (np.diff(kept) > 0).all() and set(kept.flat) == set(range(length))


def test_the_default_draw_reaches_the_last_frame_of_each_interval():
    assert_ranges(drawn(Intervals(4), 30), indices.interval_bounds(30, 4))
    assert chosen(Intervals(6), 1) == [0] * 6


def test_frames_per_second_follow_the_tables(tables):
    for case in tables["get_frame_indices_fps"]:
        rate, most = float(case["sample"].removeprefix("fps")), case["max_num_frames"]
        found = indices.per_second(case["vlen"], case["input_fps"], rate, most)
        assert found.tolist() == case["indices"]


def test_frames_per_second_fill_a_fixed_number():
    assert chosen(PerSecond(6, 1.0), 100) == [12, 38, 62, 88, 88, 88]
    assert chosen(PerSecond(3, 1.0), 5) == [2, 2, 2] and chosen(PerSecond(2), 1, fps=0.0) == [0, 0]


def test_stage_2_rules(stage1):
    for case in Golden("stage2_data_rules").json["cases"]["frame_indices"]:
        if case["kind"] == "middle":
            assert chosen(Intervals(case["num_frames"], "middle"), case["vlen"]) == case["out"]
        elif case["kind"] == "rand":
            bounds = indices.interval_bounds(case["vlen"], case["num_frames"])
            assert bounds.tolist() == case["intervals"]
        else:
            rate = float(case["kind"].removeprefix("fps"))
            assert indices.per_second(case["vlen"], case["input_fps"], rate).tolist() == case["out"]
            cut = indices.per_second(case["vlen"], case["input_fps"], rate, 3)
            assert cut.tolist() == case["out_max3"]


class _Extreme:
    """Draws the least or the most of every range."""

    def __init__(self, most):
        self.most = most

    def integers(self, stop, size=None):
        value = stop - 1 if self.most else 0
        return value if size is None else np.full(size, value)


def test_videomae_readers_follow_the_tables(tables):
    for case in tables["videomae_style"]:
        sparse = case["num_segments"] > 1
        steps = (1, 1) if sparse else (case["new_length"], case["new_step"])
        length = case["total_frames"]
        for original, kind in ((False, "frame_ids_when_offsets"), (True, "internvideo_next_multi")):
            rule = Segments(case["num_segments"], *steps, original_numbers=original)
            for most, end in ((False, "minimal"), (True, "maximal")):
                expected = np.asarray(case[f"{kind}_{end}"]) % length
                assert rule.choose(length, 25.0, _Extreme(most)).tolist() == expected.tolist()


def test_kinetics_reader_follows_the_tables(tables):
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


def test_the_lazy_reader_follows_the_tables(tables):
    for case in tables["segment_start_get_index"]:
        assert indices.from_start(case["num_frames"], case["num_segments"]).tolist() == case["indices"]


def test_stage_1_readers_follow_the_fixture(stage1):
    config, starts = stage1.config, 7
    for place, length in enumerate(config["lengths"]):
        for frames in config["num_frames"]:
            bounds = stage1[f"outputs/sparse_train_bounds_f{frames}"][place]
            np.testing.assert_array_equal(indices.spread_bounds(length, frames), bounds)
            validation = stage1[f"outputs/sparse_val_f{frames}"][place]
            assert chosen(Spread(frames, "middle"), length) == validation.tolist()
            for views in config["test_num_segment"]:
                for view in range(views):
                    key = f"f{frames}_s{views}"
                    found = chosen(Spread(frames, "view", view, views), length)
                    assert found == stage1[f"outputs/sparse_test_{key}"][place, view].tolist()
                    moved = stage1[f"outputs/interval_test_start7_{key}"][place, view] - starts
                    assert found == moved.tolist()
                    ticks = chosen(Ticks(frames, "view", view, views), length)
                    assert ticks == stage1[f"outputs/ssv2_raw_test_{key}"][place, view].tolist()


def test_dense_views_follow_the_fixture(stage1):
    config = stage1.config
    for place, length in enumerate(config["lengths"]):
        for frames in config["num_frames"]:
            for rate in config["dense_sampling_rate"]:
                for views in (2, 4):
                    expected = stage1[f"outputs/dense_test_f{frames}_s{views}_rate{rate}"][place]
                    found = [chosen(Dense(frames, rate, view, views), length) for view in range(views)]
                    assert found == expected.tolist()


def test_something_something_validation_follows_the_fixture(stage1):
    for frames in stage1.config["num_frames"]:
        lengths = [length for length in stage1.config["lengths"] if length >= frames]
        expected = stage1[f"outputs/ssv2_raw_val_f{frames}"].tolist()
        assert [chosen(Ticks(frames, "middle"), length) for length in lengths] == expected


def test_stage_3_readers_follow_the_fixture():
    golden = Golden("s3_sampling_and_keep")
    for name, asked in golden.config.items():
        if not name.startswith("frame_indices/"):
            continue
        expected, length = golden[f"outputs/{name}"].tolist(), asked["vlen"]
        if asked["sample"] == "middle":
            start = asked.get("fix_start")
            rule = Intervals(asked["num_frames"], "middle" if start is None else "start", start or 0)
            assert chosen(rule, length) == expected
        elif asked["sample"] == "dynamic_fps1":
            rule = ByDuration(asked["max_num_frames"], asked["local_num_frames"], asked["min_num_frames"])
            count = rule.count(length, asked["input_fps"])
            found = chosen(rule, length, asked["input_fps"])
            assert found[:count] == expected and set(found[count:]) <= {expected[-1]}
        else:
            rate = float(asked["sample"].removeprefix("fps"))
            found = indices.per_second(length, asked["input_fps"], rate, asked["max_num_frames"])
            assert found.tolist() == expected


def test_frames_by_duration_follow_the_fixture():
    golden = Golden("s3_sampling_and_keep")
    for name, expected in golden.group("outputs/num_frames_by_duration").items():
        local, least, most = (int(part) for part in re.findall(r"-?\d+", name))
        found = [indices.frames_for(d, local, least, most) for d in golden.config["durations"]]
        assert found == expected.tolist()


RULES = [
    *(
        Intervals(7, pick, 1, original)
        for pick in ("random", "middle", "start")
        for original in (False, True)
    ),
    PerSecond(7, 2.0),
    Segments(7),
    Segments(1, 7, 3),
    Segments(7, original_numbers=True),
    *(Spread(7, pick, 1, 3) for pick in ("random", "middle", "view")),
    Dense(7, 3),
    Dense(7, 3, view=1, views=2),
    *(Ticks(7, pick, 1, 3) for pick in ("random", "middle", "view")),
    ByDuration(7, 2, 4),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_whatever_the_clip_the_frames_are_inside_and_as_many_as_said(rule):
    for length in (1, 2, 3, 6, 7, 8, 20, 21, 100, 1001):
        for seed in range(5):
            found = np.asarray(chosen(rule, length, fps=12.5, seed=seed))
            assert len(found) == rule.frames and found.min() >= 0 and found.max() < length
            assert found.tolist() == chosen(rule, length, fps=12.5, seed=seed)


def test_a_view_that_is_not_there_is_an_error():
    with pytest.raises(UserError, match="view=3 of views=3"):
        Spread(4, "view", 3, 3)
