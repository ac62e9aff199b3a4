"""Demo corpora of pairs: the order of two groups is seen over time alone; and short, silent clips."""

import re
from dataclasses import replace

import numpy as np
import pytest

from ivjax.cli import main
from ivjax.data_pipelines.demo.demo_video import DemoKind, DemoVideo
from ivjax.data_pipelines.demo.draw import draw_frame
from ivjax.data_pipelines.demo.scene import COLOURS, combinations
from ivjax.errors import UserError

SHORT = DemoKind("none", 4.0, "pairs")


def scenes(videos=60, held_out=False, kind=SHORT):
    films = (DemoVideo(2, number, 5, held_out, kind)._film for number in range(videos))
    return [shot.scene for film in films for shot in film.shots if shot.captions]


def test_a_clip_shows_one_group_after_the_other():
    for scene in scenes(12):
        first, second = scene.events
        assert scene.order == "then" and first.colour != second.colour
        assert first.begins == 0 and first.ends == second.begins and second.ends == scene.frames / scene.fps
        assert 0.39 < first.ends / second.ends < 0.61
        for number in range(scene.frames):
            there = first if number / scene.fps < second.begins else second
            alone = replace(scene, events=(there,), alone=False)
            frames = [draw_frame(drawn, number, 64, 48) for drawn in (scene, alone)]
            np.testing.assert_array_equal(*frames)


def test_each_colour_comes_first_as_often_as_second():
    found = scenes(400)
    first, second = ([scene.events[place].colour for scene in found] for place in (0, 1))
    expected = len(found) / 8
    for colour in set(first):
        # Of n clips a share p has a deviation of sqrt(n p (1 - p)).
        assert abs(first.count(colour) - expected) < 4 * (expected * 7 / 8) ** 0.5
        assert abs(second.count(colour) - expected) < 4 * (expected * 7 / 8) ** 0.5


def test_rows_tell_the_colours_in_their_order():
    video = DemoVideo(2, 0, 5, True, SHORT)
    for row in video.rows():
        told = row["Attributes"]
        assert told["colours"] == f"{told['colour']} then {told['colour2']}"
        assert told["first_colour"] == told["colour"]
    assert "colours" not in DemoVideo(2, 0, 5, True).rows()[0]["Attributes"]


def test_what_happens_is_asked_beside_the_other_order_and_other_colours():
    video = DemoVideo(2, 0, 5, True, SHORT)
    shots = [shot for shot in video._film.shots if shot.captions]
    for row, shot in zip(video.dialogues(), shots, strict=True):
        told = {event.colour for event in shot.scene.events}
        options = [re.findall(rf"\b(?:{'|'.join(COLOURS)})\b", option) for option in row["options"]]
        right = options.pop("ABCD".index(row["answer"]))
        assert row["type"] == "events" and right == [event.colour for event in shot.scene.events]
        assert right[::-1] in options and len({*map(tuple, options)}) == 3
        assert sorted(len(told & {*colours}) for colours in options) == [1, 1, 2]
    trained = DemoVideo(2, 0, 5, False, SHORT)
    assert [row["conversations"] for row in trained.dialogues()] == [
        row["conversations"] for row in trained.descriptions()
    ]


def test_only_held_out_combinations_are_tested():
    for held_out in (False, True):
        found = {(e.colour, e.shape, e.motion) for s in scenes(held_out=held_out) for e in s.events}
        assert found <= set(combinations(held_out))


def test_clips_are_short_and_silent():
    lengths = np.array([scene.frames / scene.fps for scene in scenes()])
    assert lengths.min() >= 1.9 and lengths.max() < 4 and np.ptp(lengths) > 1.5
    assert {scene.sound for scene in scenes()} == {"none"}
    assert not any(DemoVideo(2, number, 5, False, SHORT)._film.has_sound for number in range(20))


def test_pictures_are_the_same_without_sounds():
    heard, silent = (scenes(20, kind=DemoKind(sounds)) for sounds in ("tones", "none"))
    assert [scene.events for scene in heard] == [scene.events for scene in silent]
    assert {scene.sound for scene in heard} > {scene.sound for scene in silent} == {"none"}


def test_kinds_have_names_of_their_own():
    kinds = (DemoKind(), SHORT, DemoKind("none"), DemoKind(longest=4.0), DemoKind(scenes="pairs"))
    assert len({DemoVideo(1, 0, 3, False, kind).id for kind in kinds}) == len(kinds)
    assert DemoVideo(1, 0, 3, False).id == DemoVideo(1, 0, 3, False, DemoKind("tones")).id


@pytest.mark.parametrize("longest", [2.0, 100.0])
def test_clips_that_cannot_be_drawn_are_refused(longest):
    with pytest.raises(UserError, match=f"no clips of at most {longest:g} s"):
        DemoKind(longest=longest).check()


def test_the_command_draws_them(tmp_path, capsys):
    words = ("data", "demo", str(tmp_path), "--clips", "3", "--held-out", "1", "--workers", "1")
    assert main([*words, "--longest", "3", "--scenes", "pairs", "--sounds", "none"]) == 0
    assert "3 clips and 1 held out" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*words, "--scenes", "triples"])
