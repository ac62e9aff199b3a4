"""Scenes of the demo corpus, their captions and their drawing: true, varied, and told apart."""

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from ivjax.data_pipelines.demo import grammar
from ivjax.data_pipelines.demo.background import BACKGROUNDS, Tint
from ivjax.data_pipelines.demo.demo_video import DemoVideo, timestamp
from ivjax.data_pipelines.demo.draw import Pose, draw_frames, stamp
from ivjax.data_pipelines.demo.scene import COLOURS, MOTIONS, SHAPES, combinations, draw_scene, is_held_out

SUFFIXES = ("", "2", "3")


def seconds(row):
    """Length of a clip."""
    start, end = (row[f"{name}_timestamp"].split(":") for name in ("Start", "End"))
    return sum(f * (float(b) - float(a)) for f, a, b in zip((3600, 60, 1), start, end, strict=True))


def events(row):
    """(colour, shape, motion) of every event of a row."""
    words = row["Attributes"]
    return [
        tuple(words[n + s] for n in ("colour", "shape", "motion")) for s in SUFFIXES if "colour" + s in words
    ]


def captions(row):
    return row.get("Captions", [row["Caption"]])


def fits(row):
    """Whether the captions of a row are its own."""
    return row["UMT_Score"] > 0.38


def rows_of(videos, held_out=False):
    return [row for number in range(videos) for row in DemoVideo(1, number, 5, held_out).rows()]


@pytest.fixture(scope="module")
def rows():
    return rows_of(240)


def test_timestamps_are_to_the_nearest_millisecond():
    assert timestamp(Fraction(7, 12)) == "00:00:00.583"
    assert timestamp(Fraction(2 * 3600 + 3 * 60 + 59) + Fraction(2, 3)) == "02:03:59.667"


def test_lengths_are_spread_like_those_of_internvid(rows):
    lengths = np.array([seconds(row) for row in rows])
    assert lengths.min() >= 1.999 and lengths.max() <= 20.001
    assert 0.82 < (lengths < 10).mean() < 0.88


def test_words_are_as_many_as_in_internvid(rows):
    counts = np.array([len(caption.split()) for row in rows for caption in captions(row)])
    shares = [(counts < 10).mean(), ((counts >= 10) & (counts <= 20)).mean(), (counts > 20).mean()]
    np.testing.assert_allclose(shares, (0.3, 0.55, 0.15), atol=0.1)
    assert len({caption for row in rows for caption in captions(row)}) > 0.9 * len(counts)


def named(caption, table):
    """The keys of `table` of which a word stands in the caption, in the order of the caption."""
    places = {}
    for key, words in table.items():
        flat = [w for word in words for w in (word if isinstance(word, tuple) else (word,))]
        found = re.search(rf"\b({'|'.join(sorted(flat, key=len, reverse=True))})\b", caption)
        if found:
            places[found.start()] = key
    return [places[place] for place in sorted(places)]


def test_captions_name_the_colours_shapes_and_motions_in_their_order(rows):
    for row in filter(fits, rows):
        for caption in captions(row):
            for place, table in enumerate((grammar.COLOUR_WORDS, grammar.SHAPE_WORDS, grammar.MOTION_WORDS)):
                wanted = list(dict.fromkeys(event[place] for event in events(row)))
                found = named(caption, table)
                assert set(found) == set(wanted), caption
                assert found == wanted or row["Attributes"]["order"] == "together", caption


def test_captions_say_nothing_that_is_not_so(rows):
    tables = {"size": grammar.SIZE_WORDS, "speed": grammar.SPEED_WORDS}
    for row in filter(fits, rows):
        words = row["Attributes"]
        for caption in captions(row):
            for name, table in tables.items():
                assert set(named(caption, table)) <= {words.get(name + s) for s in SUFFIXES}, caption
            assert set(named(caption, grammar.BACKGROUND_WORDS)) <= {words["background"]}, caption
            assert set(named(caption, grammar.SOUND_WORDS | {"none": ("silence",)})) <= {words["sound"]}, (
                caption
            )


def test_captions_count_right(rows):
    numbers = {"a": "1", "an": "1", "one": "1", "two": "2", "a pair of": "2", "three": "3", "four": "4"}
    colours = "|".join(word for words in grammar.COLOUR_WORDS.values() for word in words)
    number = "|".join(sorted(numbers, key=len, reverse=True))
    pattern = rf"\b({number}) (?:(?:small|little|big|large) )?(?:{colours})\b"
    for row in filter(fits, rows):
        counts = sorted(row["Attributes"]["count" + s] for s in SUFFIXES[: len(events(row))])
        for caption in captions(row):
            assert sorted(numbers[number] for number in re.findall(pattern, caption)) == counts, caption


def test_one_caption_in_twenty_is_of_something_else_and_scores_low(rows):
    strange = [row for row in rows if not fits(row)]
    assert 0.03 < len(strange) / len(rows) < 0.07
    assert (
        max(row["UMT_Score"] for row in strange)
        <= 0.35
        < 0.42
        <= min(r["UMT_Score"] for r in rows if fits(r))
    )
    for row in strange:
        shown = {word for event in events(row) for word in event}
        tables = (grammar.COLOUR_WORDS, grammar.SHAPE_WORDS, grammar.MOTION_WORDS)
        assert not shown & {word for table in tables for word in named(row["Caption"], table)}


def test_held_out_combinations_are_all_that_tests_show_and_nothing_that_training_shows(rows):
    testing = rows_of(40, held_out=True)
    assert not any(is_held_out(*event) for row in rows for event in events(row))
    assert all(is_held_out(*event) for row in testing for event in events(row))
    assert all(fits(row) for row in testing)


def test_no_caption_of_training_speaks_of_a_held_out_combination(rows):
    tables = (grammar.COLOUR_WORDS, grammar.SHAPE_WORDS, grammar.MOTION_WORDS)
    told = [[named(caption, table) for table in tables] for row in rows for caption in captions(row)]
    single = [tuple(names[0] for names in found) for found in told if all(len(names) == 1 for names in found)]
    assert len(single) > 500 and not any(is_held_out(*combination) for combination in single)


def test_each_two_parts_of_a_held_out_combination_are_met_in_training():
    training, testing = combinations(False), combinations(True)
    assert 0.11 < len(testing) / len(training + testing) < 0.14
    for left_out in range(3):
        pairs = {tuple(np.delete(c, left_out)) for c in training}
        assert {tuple(np.delete(c, left_out)) for c in testing} <= pairs


def one_event(motion, **changes):
    """A scene of 4 s with one big white square, over the darkest plain background."""
    rng = np.random.default_rng(5)
    scene = draw_scene(rng, 40, 10, Tint(False, False), held_out=False)
    event = replace(scene.events[0], colour="white", shape="square", motion=motion, speed="slow", radius=0.2)
    event = replace(
        event, **{"lanes": (0.5,), "rest": 0.5, "shade": 1.0, "begins": 0.0, "ends": 4.0} | changes
    )
    return replace(
        scene, events=(event,), order="single", background=replace(scene.background, pattern="plain")
    )


def track(scene):
    """Of the white pixels of each frame: their number, mean column and mean row (nan if there are none)."""
    found = []
    for frame in draw_frames(scene, 120, 100):
        rows, columns = np.nonzero(frame.min(-1) > 200)
        found.append((len(rows), columns.mean(), rows.mean()) if len(rows) else (0, np.nan, np.nan))
    return np.array(found).T


def steps(values):
    return np.diff(values[~np.isnan(values)])


def spread(values):
    return np.nanmax(values) - np.nanmin(values)


MOVES = {
    "enters from the left": lambda size, x, y: (steps(x) > 0).all() and spread(y) < 2,
    "enters from the right": lambda size, x, y: (steps(x) < 0).all() and spread(y) < 2,
    "falls": lambda size, x, y: (steps(y) > 0).all() and spread(x) < 2,
    "rises": lambda size, x, y: (steps(y) < 0).all() and spread(x) < 2,
    "grows": lambda size, x, y: (np.diff(size) >= 0).all() and size[-1] > 5 * size[0],
    "shrinks": lambda size, x, y: (np.diff(size) <= 0).all() and size[0] > 5 * size[-1],
    "spins": lambda size, x, y: spread(size) < 0.1 * size[0] and spread(x) < 1 and spread(y) < 1,
    "bounces": lambda size, x, y: (
        spread(y) > 20 and spread(x) < 1 and (np.diff(np.sign(steps(y))) != 0).sum() >= 1
    ),
    "blinks": lambda size, x, y: 0 < (size > 0).mean() < 1 and len(set(size[size > 0])) == 1,
    "loops": lambda size, x, y: spread(y) > 20 and spread(x) > 15 and spread(np.hypot(x - 60, y - 50)) < 2,
}


@pytest.mark.parametrize("motion", MOTIONS)
def test_shapes_move_as_their_motion_says(motion):
    assert MOVES[motion](*track(one_event(motion)))


def test_only_what_spins_turns():
    pictures = {m: list(draw_frames(one_event(m), 96, 96)) for m in ("spins", "blinks")}
    assert len({picture.tobytes() for picture in pictures["spins"]}) > 30
    assert len({picture.tobytes() for picture in pictures["blinks"]}) == 2


def test_fast_arrives_before_medium_before_slow():
    arrivals = []
    for speed in ("fast", "medium", "slow"):
        x = track(one_event("enters from the left", speed=speed))[1]
        arrivals.append(int(np.argmax(np.nan_to_num(x) >= np.nanmax(x) - 0.5)))
    assert arrivals[0] + 8 < arrivals[1] < arrivals[2] - 8


def test_shapes_are_told_apart_where_they_are_small():
    masks = []
    for shape in SHAPES:
        picture = np.zeros((56, 56, 3), np.uint8)
        stamp(picture, shape, np.full(3, 255.0), Pose(28, 28, 6))
        masks.append(picture[..., 0] / 255)
    for number, one in enumerate(masks):
        assert one.sum() > 25
        for other in masks[:number]:
            assert np.minimum(one, other).sum() < 0.87 * np.maximum(one, other).sum()


def test_like_shapes_do_not_touch():
    for number in range(300):
        scene = draw_scene(np.random.default_rng(number), 60, 10, Tint(True, True), held_out=False)
        for event in scene.events:
            assert event.count == 1 or np.diff(event.lanes).min() >= 2 * event.radius


def test_contrast_raises_the_aesthetic_score(rows):
    assert all(3 < row["Aesthetic_Score"] < 7 for row in rows)
    white, purple = (replace(one_event("grows").events[0], colour=c) for c in ("white", "purple"))
    scene = one_event("grows")
    assert replace(scene, events=(white,)).contrast() > replace(scene, events=(purple,)).contrast() + 0.1


def test_attributes_take_all_their_values(rows):
    found = {}
    for row in rows:
        for name, value in row["Attributes"].items():
            found.setdefault(name, set()).add(value)
    assert (
        found["colour"] == set(COLOURS) and found["shape"] == set(SHAPES) and found["motion"] == set(MOTIONS)
    )
    assert found["background"] == set(BACKGROUNDS) and found["order"] == {"single", "then", "together"}
    assert found["count"] == set("1234") and found["sound"] == {"none", "high", "low", "beeping"}
    assert found["events"] == set("123") and found["speed"] == {"slow", "medium", "fast"}
