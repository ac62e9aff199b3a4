"""Shots: where the camera cuts, how bursts of cuts are merged, and rows that become several clips."""

import colorsys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from ivjax.data_pipelines.build.make_clips import make_clips
from ivjax.data_pipelines.build.pieces import split_shots
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.records import Clip
from ivjax.data_pipelines.video.encode import Encoding, encode_video
from ivjax.data_pipelines.video.shots import ShotRule, content_scores, find_cuts, hsv
from tests.data_pipelines.footage import QUICK

SCENES = ((40, (200, 60, 40)), (30, (40, 180, 70)), (55, (60, 70, 210)), (25, (220, 210, 60)))


def moving(colour, frame):
    """A dark square that wanders over a coloured ground."""
    picture = np.full((64, 96, 3), colour, np.uint8)
    place = frame % 60
    picture[20:40, place : place + 20] = 30
    return picture


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    frames = [moving(colour, n) for count, colour in SCENES for n in range(count)]
    path = tmp_path_factory.mktemp("shots") / "scenes.mp4"
    path.write_bytes(encode_video(frames, Fraction(25), Encoding(preset="veryfast")))
    return str(path)


def test_hue_saturation_and_value_are_those_of_the_textbook_in_bytes():
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    picture[0, :3] = [(0, 0, 0), (255, 255, 255), (255, 0, 254)]
    found = np.moveaxis(hsv(picture), 0, -1)
    for pixel, (hue, saturation, value) in zip(picture.reshape(-1, 3), found.reshape(-1, 3), strict=True):
        exact = colorsys.rgb_to_hsv(*(pixel / 255))
        assert abs((hue - exact[0] * 180 + 90) % 180 - 90) <= 0.6
        assert abs(saturation - exact[1] * 255) <= 0.6 and value == pixel.max()


def test_the_score_is_the_mean_change_of_hue_saturation_and_value():
    black, red = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    red[:2] = (255, 0, 0)
    assert list(content_scores([black, red, red])) == [0.0, (0 + 127.5 + 127.5) / 3, 0.0]


def jumps(count, *places):
    """Scores of `count` frames that jump at some of them."""
    scores = np.zeros(count)
    scores[list(places)] = 30.0
    return list(scores)


@pytest.mark.parametrize(
    ("places", "cuts"),
    [
        ((40, 70, 125), [40, 70, 125]),
        ((10, 40), [40]),  # before the first scene is long enough
        ((5, 10, 30), [30]),  # every jump starts the count anew
        ((40, 45, 50), [40]),  # the burst is too short for a cut of its own
        ((40, 45, 50, 55, 60, 65), [40, 65]),  # long enough: one cut, at its end
        ((40, 45, 52, 60, 110), [40, 60, 110]),
        ((139, 140, 141), [139]),  # merging that is not over by the end
    ],
)
def test_jumps_that_follow_each_other_too_fast_are_merged(places, cuts):
    assert find_cuts(jumps(150, *places), ShotRule()) == cuts


def test_every_jump_is_a_cut_when_shots_may_be_short():
    assert find_cuts(jumps(20, 3, 4, 9), ShotRule(min_frames=1)) == [3, 4, 9]
    assert find_cuts(jumps(20, 3, 4, 9), ShotRule(threshold=31.0)) == []


def test_a_video_is_split_where_its_scenes_change(video):
    rows = split_shots(SourceRow("a", video), ShotRule())
    assert [row.id for row in rows] == ["a-000", "a-001", "a-002", "a-003"]
    assert [(row.start, row.end) for row in rows] == [(None, 1.6), (1.6, 2.8), (2.8, 5.0), (5.0, None)]


def test_a_row_without_a_cut_stays_as_it_is(video):
    row = SourceRow("a", video, start=0.2, end=1.5)
    assert split_shots(row, ShotRule()) == [row]


def test_each_shot_of_a_row_becomes_a_clip_with_times_of_its_own(video):
    row = SourceRow("a", video, start=1.0, end=5.5, captions=("scenes",), video="abc")
    made = list(make_clips(row, replace(QUICK, shots=ShotRule(), min_seconds=0.6)))
    clips = [clip for clip in made if isinstance(clip, Clip)]
    assert [(c.id, c.start, c.end, c.frames) for c in clips] == [
        ("a-000", 1.0, 1.6, 15),
        ("a-001", 1.6, 2.8, 30),
        ("a-002", 2.8, 5.0, 55),
    ]
    assert {c.video for c in clips} == {"abc"} and {c.captions for c in clips} == {("scenes",)}
    assert [(drop.id, drop.cause) for drop in made if not isinstance(drop, Clip)] == [("a-003", "too short")]
