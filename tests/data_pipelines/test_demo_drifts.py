"""Drifts of the demo corpus: which way they go is seen over time alone; and short, silent clips."""

from dataclasses import replace

import numpy as np
import pytest

from ivjax.cli import main
from ivjax.data_pipelines.demo import grammar
from ivjax.data_pipelines.demo.demo_video import DemoKind, DemoVideo
from ivjax.data_pipelines.demo.draw import draw_frame, poses
from ivjax.data_pipelines.demo.scene import COLOURS, DRIFTS, SHAPES, combinations, is_held_out
from ivjax.errors import UserError

SHORT = DemoKind("none", 4.0, "drifts")
STEP = {"drifts left": (-1, 0), "drifts right": (1, 0), "drifts up": (0, -1), "drifts down": (0, 1)}


def scenes(videos=60, held_out=False, kind=SHORT):
    films = (DemoVideo(2, number, 5, held_out, kind)._film for number in range(videos))
    return [shot.scene for film in films for shot in film.shots if shot.captions]


def centre(event, time):
    """The place of an event's first shape, as shares of the picture."""
    pose = poses(event, time, 100, 100)[0]
    return np.array([pose.x, pose.y]) / 100


def test_shapes_go_their_way_and_come_in_again_where_they_left():
    for scene in scenes():
        (event,) = scene.events
        first, second = (event.begins + share * (event.ends - event.begins) for share in (0.4, 0.6))
        moved = (centre(event, second) - centre(event, first) + 0.5) % 1 - 0.5
        far = {"slow": 0.6, "medium": 0.85, "fast": 1.1}[event.speed] / 5
        np.testing.assert_allclose(moved, far * np.array(STEP[event.motion]), atol=1e-9)


def test_a_frame_of_a_drift_is_one_of_every_other_drift():
    for scene in scenes(12):
        (event,) = scene.events
        number = scene.frames // 2
        seen = draw_frame(scene, number, 64, 48)
        along, down = centre(event, number / scene.fps)
        for motion in DRIFTS:
            other = replace(event, motion=motion)
            # It begins so that it is at the same place now.
            x, y = np.array([along, down]) - centre(other, number / scene.fps)
            lanes = tuple((lane + x) % 1 for lane in other.lanes)
            rest = other.rest + y + x - (lanes[0] - other.lanes[0])
            twin = replace(scene, events=(replace(other, lanes=lanes, rest=rest),))
            difference = np.abs(draw_frame(twin, number, 64, 48).astype(int) - seen)
            assert difference.max() <= 1, (event, motion)


def test_places_in_the_middle_of_a_clip_do_not_depend_on_the_direction():
    found = {motion: [] for motion in DRIFTS}
    for scene in scenes(500):
        (event,) = scene.events
        found[event.motion].append(centre(event, scene.frames / scene.fps / 2))
    for places in map(np.array, found.values()):
        # Even over the picture: the mean of n even numbers has a deviation of 0.29 / sqrt(n).
        np.testing.assert_allclose(places.mean(0), 0.5, atol=4 * 0.29 / len(places) ** 0.5)
        np.testing.assert_allclose(places.std(0), 0.29, atol=0.03)


def test_short_clips_have_one_event_and_no_sound():
    found = scenes()
    lengths = np.array([scene.frames / scene.fps for scene in found])
    assert lengths.min() >= 1.9 and lengths.max() < 4 and np.ptp(lengths) > 1.5
    assert {(len(scene.events), scene.sound) for scene in found} == {(1, "none")}
    assert not any(DemoVideo(2, number, 5, False, SHORT)._film.has_sound for number in range(20))


def test_pictures_are_the_same_without_sounds():
    heard, silent = (scenes(20, kind=DemoKind(sounds)) for sounds in ("tones", "none"))
    assert [scene.events for scene in heard] == [scene.events for scene in silent]
    assert {scene.sound for scene in heard} > {scene.sound for scene in silent} == {"none"}


def test_an_eighth_of_the_combinations_is_held_out():
    every = {(c, s, m) for c in COLOURS for s in SHAPES for m in DRIFTS}
    assert set(combinations(True, DRIFTS)) == {one for one in every if is_held_out(*one)}
    assert len(combinations(True, DRIFTS)) * 8 == len(every)
    tested = {(e.colour, e.shape, e.motion) for scene in scenes(held_out=True) for e in scene.events}
    assert tested <= set(combinations(True, DRIFTS))
    trained = {(e.colour, e.shape, e.motion) for scene in scenes() for e in scene.events}
    assert not trained & set(combinations(True, DRIFTS))


def test_captions_and_questions_name_the_direction():
    video = DemoVideo(2, 0, 5, True, SHORT)
    for row in video.rows():
        words = [form for pair in grammar.MOTION_WORDS[row["Attributes"]["motion"]] for form in pair]
        assert all(
            any(word in caption for word in words) for caption in row.get("Captions", [row["Caption"]])
        )
    asked = [row for row in video.dialogues() if row["type"] == "motion"]
    assert len(asked) == 5
    four = {frozenset(grammar.MOTION_WORDS[motion][0][several] for motion in DRIFTS) for several in (0, 1)}
    assert {frozenset(row["options"]) for row in asked} <= four


def test_kinds_have_names_of_their_own():
    kinds = (DemoKind(), SHORT, DemoKind("none"), DemoKind(longest=4.0), DemoKind(motions="drifts"))
    assert len({DemoVideo(1, 0, 3, False, kind).id for kind in kinds}) == len(kinds)
    assert DemoVideo(1, 0, 3, False).id == DemoVideo(1, 0, 3, False, DemoKind("tones")).id


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (DemoKind(longest=2.0), "no clips of at most 2 s"),
        (DemoKind(longest=100.0), "no clips of at most 100 s"),
        (DemoKind("events", motions="drifts"), "drifts have no sounds of their own"),
    ],
)
def test_clips_that_cannot_be_drawn_are_refused(kind, told):
    with pytest.raises(UserError, match=told):
        kind.check()


def test_the_command_draws_them(tmp_path, capsys):
    words = ("data", "demo", str(tmp_path), "--clips", "3", "--held-out", "1", "--workers", "1")
    assert main([*words, "--longest", "3", "--motions", "drifts", "--sounds", "none"]) == 0
    assert "3 clips and 1 held out" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*words, "--motions", "waltz"])
