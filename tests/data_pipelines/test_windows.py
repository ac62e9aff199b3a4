"""Windows: long rows become clips of one length, with exact times and the annotations of their row."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from ivjax.data_pipelines.build.clip_recipe import ClipRecipe, Remark, WindowRule, check_recipe
from ivjax.data_pipelines.build.guard import GuardedMaker
from ivjax.data_pipelines.build.make_clips import make_clips
from ivjax.data_pipelines.build.pieces import windows
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.records import Clip, unpack
from ivjax.data_pipelines.video.encode import encode_image
from ivjax.data_pipelines.video.shots import ShotRule
from ivjax.errors import UserError
from tests.data_pipelines.footage import (
    HEIGHT,
    QUICK,
    WIDTH,
    coded,
    numbers_of,
    write_timed_video,
    write_video,
)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("windows") / "abcdefghijk.mp4", 110)  # 4.4 s


def spans(end, *rule, begin=0):
    found = windows(Fraction(begin), Fraction(end), WindowRule(*rule), Fraction(1, 50))
    return [(float(first), float(last)) for first, last in found]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ((2.0,), [(0, 2), (2, 4), (4, 5)]),
        ((2.0, None, "drop"), [(0, 2), (2, 4)]),
        ((2.0, None, "shift"), [(0, 2), (2, 4), (3, 5)]),
        ((2.0, 1.0), [(0, 2), (1, 3), (2, 4), (3, 5)]),  # no rest
        ((3.0, 1.5), [(0, 3), (1.5, 4.5), (3, 5)]),
        ((1.0, 3.0), [(0, 1), (3, 4)]),  # the rest would begin behind the next gap
        ((1.0, 2.0), [(0, 1), (2, 3), (4, 5)]),
        ((1.5, 4.0), [(0, 1.5), (4, 5)]),
        ((5.0,), [(0, 5)]),
        ((9.0, 1.0, "drop"), [(0, 5)]),  # no longer than a window: it stays whole
    ],
)
def test_windows_of_five_seconds(rule, expected):
    assert spans(5, *rule) == expected


def test_windows_begin_with_their_row_and_a_rest_below_half_a_frame_is_none():
    assert spans(12, 2.0, begin=7) == [(7, 9), (9, 11), (11, 12)]
    assert spans(4.01, 2.0) == [(0, 2), (2, 4)]
    assert spans(0.3, 0.1) == [(0.0, 0.1), (0.1, 0.2), (0.2, 0.3)]  # not of floats, whose sum is above 0.3


def made(row, rule, **options):
    return list(make_clips(row, replace(QUICK, windows=rule, **options)))


@pytest.mark.parametrize(
    ("rest", "frames"),
    [
        ("keep", [(0, 50), (50, 100), (100, 110)]),
        ("drop", [(0, 50), (50, 100)]),
        ("shift", [(0, 50), (50, 100), (60, 110)]),
    ],
)
def test_a_whole_file_is_cut_into_windows_that_share_its_annotations(video, rest, frames):
    row = SourceRow("a", video, captions=("x", "y"), label=3, video="v", scores={"umt": 0.5})
    clips = made(row, WindowRule(2.0, rest=rest))
    assert [clip.id for clip in clips] == [f"a-{number:03d}" for number in range(len(frames))]
    assert [numbers_of(clip.payload) for clip in clips] == [list(range(*span)) for span in frames]
    assert [(clip.start, clip.end) for clip in clips] == [(first / 25, last / 25) for first, last in frames]
    for clip in clips:
        assert (clip.captions, clip.label, clip.video, clip.scores) == (("x", "y"), 3, "v", {"umt": 0.5})


def test_windows_of_a_row_with_times_stay_inside_it(video):
    clips = made(SourceRow("abcdefghijk_0.500_3.100", video, start=0.5, end=3.1), WindowRule(1.0, 0.8))
    assert [(clip.start, clip.end) for clip in clips] == [(0.5, 1.5), (1.3, 2.3), (2.1, 3.1)]
    assert numbers_of(clips[0].payload) == list(range(13, 38))
    (whole,) = made(SourceRow("a", video, start=0.5, end=1.5), WindowRule(1.0))
    assert (whole.id, whole.start, whole.end) == ("a", 0.5, 1.5)


def test_windows_of_a_row_that_ends_after_its_file_end_with_the_file(video):
    remark, *clips = made(SourceRow("a", video, start=0.4, end=5.0), WindowRule(2.0))
    assert [(clip.start, clip.end) for clip in clips] == [(0.4, 2.4), (2.4, 4.4)]
    assert isinstance(remark, Remark) and (remark.id, remark.cause) == ("a", "shortened")
    (drop,) = made(SourceRow("a", video, end=50.0), WindowRule(2.0))
    assert drop.cause == "past the end"


def test_a_rest_below_the_shortest_clip_is_dropped_and_images_stay_whole(video, tmp_path):
    *clips, drop = made(SourceRow("a", video), WindowRule(2.0), min_seconds=1.0)
    assert len(clips) == 2 and (drop.id, drop.cause) == ("a-002", "too short")
    (tmp_path / "a.png").write_bytes(encode_image(coded(1)))
    (image,) = made(SourceRow("i", str(tmp_path / "a.png"), media="image"), WindowRule(2.0))
    assert isinstance(image, Clip) and image.id == "i"


def test_windows_reach_the_end_of_pictures_that_begin_after_the_sound(tmp_path):
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        video = container.add_stream("libx264", rate=25, options={"g": "12"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), "s16", "mono")
        silence.sample_rate, silence.pts = 8000, 0
        container.mux(sound.encode(silence))
        for number in range(50):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(coded(number)), "rgb24")
            picture.pts, picture.time_base = 1000 + 40 * number, Fraction(1, 1000)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    clips = made(SourceRow("a", str(path), start=1.0), WindowRule(1.0, rest="drop"))
    assert [numbers_of(clip.payload) for clip in clips] == [list(range(25)), list(range(25, 50))]


def test_shots_are_cut_into_windows_where_they_are_longer(tmp_path):
    path = write_timed_video(tmp_path / "shots.mkv", [40 * n for n in range(60)])
    numbers = [numbers_of(clip.payload) for clip in made(SourceRow("a", path), WindowRule(1.0))]
    assert numbers == [list(range(0, 25)), list(range(25, 50)), list(range(50, 60))]
    both = made(SourceRow("a", path), WindowRule(1.0), shots=ShotRule(threshold=255.0))
    assert [clip.id for clip in both] == ["a-000", "a-001", "a-002"]


def test_each_window_has_the_time_of_a_row_in_the_builder(video):
    recipe = replace(QUICK, windows=WindowRule(1.0, rest="drop"))
    with GuardedMaker(recipe, 60.0) as maker:
        outcome = maker.make(SourceRow("a", video, end=4.6))
        lost = maker.make(SourceRow("b", f"{video}.none"))
    assert [unpack(record).id for record in outcome.records] == ["a-000", "a-001", "a-002", "a-003"]
    assert [remark.id for remark in outcome.remarks] == ["a"] and not outcome.drops
    assert [drop.cause for drop in lost.drops] == ["missing"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (ClipRecipe(windows=WindowRule(0.0)), "windows.seconds=0.0 is not above 0"),
        (ClipRecipe(windows=WindowRule(1.0, -1.0)), "windows.stride=-1.0 is not above 0"),
        (ClipRecipe(windows=WindowRule(float("nan"))), "windows.seconds=nan is not above 0"),
        (ClipRecipe(windows=WindowRule(9.0), max_seconds=8.0), "above max_seconds=8.0"),
        (ClipRecipe(windows=WindowRule(1.0), min_seconds=2.0), "below min_seconds=2.0"),
    ],
)
def test_windows_of_no_use_are_refused(recipe, message):
    with pytest.raises(UserError, match=message):
        check_recipe(recipe)
