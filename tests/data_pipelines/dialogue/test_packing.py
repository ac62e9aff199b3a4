"""Packing: each conversation stands once in a row that holds it, and rows are full."""

import numpy as np
import pytest

from ivjax.data_pipelines.dialogue.packing import TalkSize, pack

BUCKETS = {"long": TalkSize(2048, 64), "short": TalkSize(512, 16), "still": TalkSize(2048, 64, 8)}


def random_sizes(count, seed=0):
    rng = np.random.default_rng(seed)
    words = rng.integers(30, 500, count) + rng.choice([0, 900], count, p=[0.9, 0.1])
    clips = rng.integers(1, 8, count)
    return [TalkSize(int(w + c * 8), int(c), int(w % 40 == 0)) for w, c in zip(words, clips, strict=True)]


def test_each_conversation_has_one_row_that_holds_it_and_rows_are_nine_tenths_full():
    sizes = random_sizes(3000)
    rows = pack(sizes, BUCKETS, np.random.default_rng(1))
    assert list(rows) == list(BUCKETS)
    met = sorted(number for packed in rows.values() for row in packed for number in row)
    assert met == list(range(len(sizes)))
    filled = room = 0
    for name, packed in rows.items():
        for row in packed:
            whole = [sum(values) for values in zip(*(sizes[number] for number in row), strict=True)]
            assert TalkSize(*whole).fits(BUCKETS[name])
            filled += whole[0]
            room += BUCKETS[name].tokens
    assert filled / room > 0.95
    assert rows["short"] and rows["long"] and rows["still"]
    assert rows == pack(sizes, BUCKETS, np.random.default_rng(1))
    assert rows != pack(sizes, BUCKETS, np.random.default_rng(2))


def test_alone_each_conversation_has_the_smallest_row_that_holds_it():
    sizes = random_sizes(50)
    rows = pack(sizes, BUCKETS, np.random.default_rng(0), together=False)
    for number, size in enumerate(sizes):
        small = size.fits(BUCKETS["short"])
        name = "short" if small else "still" if size.images else "long"
        assert (number,) in rows[name]


@pytest.mark.parametrize("tokens", [90, 110])
def test_rows_that_would_be_badly_filled_go_to_a_larger_bucket(tokens):
    # Four of 110 tokens fill 450 well; of 90, five do. Two in a row of 200 would waste a tenth and more.
    sizes = [TalkSize(tokens)] * 40
    rows = pack(sizes, {"small": TalkSize(190), "large": TalkSize(450)}, np.random.default_rng(0))
    full = {90: ("small", 20), 110: ("large", 10)}[tokens]
    assert len(rows[full[0]]) == full[1] and sum(map(len, rows.values())) == full[1]


@pytest.mark.parametrize(("length", "least", "most"), [(2048, 0.3, 0.4), (4096, 0.0, 0.1)])
def test_rows_of_several_long_conversations_waste_little(length, least, most):
    # As of 16 clips of 64 visual tokens, and words. One alone fills two thirds of the shorter rows.
    sizes = [TalkSize(int(tokens), 16) for tokens in np.random.default_rng(0).integers(1174, 1424, 300)]
    rows = pack(sizes, {"row": TalkSize(length, 64)}, np.random.default_rng(0))["row"]
    assert least < 1 - sum(size.tokens for size in sizes) / (len(rows) * length) < most


def test_rows_that_are_full_of_clips_hide_no_row_with_room():
    # Long ones first: rows of two of them and of four short ones are full of clips and have tokens to spare.
    sizes = [TalkSize(int(tokens), 2) for tokens in np.random.default_rng(0).integers(64, 90, 2000)]
    rows = pack(sizes, {"row": TalkSize(400, 8)}, np.random.default_rng(0))["row"]
    assert len(rows) == 500


def test_the_row_with_fewer_clips_is_the_smaller_one():
    buckets = {"few": TalkSize(256, 4), "many": TalkSize(192, 8)}
    rows = pack([TalkSize(120, 2)] * 8 + [TalkSize(180, 8)] * 3, buckets, np.random.default_rng(0))
    assert list(map(len, rows["few"])) == [2] * 4 and list(map(len, rows["many"])) == [1] * 3
