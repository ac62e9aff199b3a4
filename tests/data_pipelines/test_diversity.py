"""Diversity sampling: the original's draw bit for bit, and one by streaming with the same distribution."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest

from ivjax.data_pipelines.sampling.diversity import original_draw, streaming_draw
from ivjax.errors import UserError
from tests.goldens import Golden

CLIPS = [(f"v{video}_{clip}", f"v{video}") for video in range(6) for clip in range(1 + video * 3)]


@pytest.mark.golden
@pytest.mark.parametrize("fixture", ["frame_sampling_and_div_sampling"])
def test_the_original_draw_follows_the_fixture(fixture):
    for case in Golden(fixture).json["div_sampling"]:
        found = original_draw(case["videos"], case["take"], case["numpy_seed"])
        assert found == case["sampled_indices"]


def test_streaming_keeps_the_distribution():
    counts, many = Counter(), Counter()
    for seed in range(1500):
        counts.update(CLIPS[index][1] for index in streaming_draw(CLIPS, 1, seed))
        many.update(streaming_draw(CLIPS, 8, seed))
    shares = np.array([counts[f"v{video}"] / 1500 for video in range(6)])
    np.testing.assert_allclose(shares, 1 / 6, atol=0.04)
    names = [f"{video:0<11}" for _, video in CLIPS]
    original = Counter(index for seed in range(1500) for index in original_draw(names, 8, seed))
    difference = [many[index] / 1500 - original[index] / 1500 for index in range(len(CLIPS))]
    assert np.abs(difference).max() < 0.06


def test_streaming_depends_on_the_seed_and_not_on_the_order():
    reference = [CLIPS[index] for index in streaming_draw(CLIPS, 10)]
    backwards = CLIPS[::-1]
    assert [backwards[index] for index in streaming_draw(backwards, 10)] == reference
    assert streaming_draw(CLIPS, 10, seed=1) != streaming_draw(CLIPS, 10, seed=2)


def test_rows_are_read_twice_and_never_kept():
    class Rows:
        reads = 0

        def __iter__(self):
            Rows.reads += 1
            return iter(CLIPS)

    assert streaming_draw(Rows(), 10) == streaming_draw(CLIPS, 10) and Rows.reads == 2
    with pytest.raises(TypeError, match="rows are read twice"):
        streaming_draw(iter(CLIPS), 10)


def test_memory_is_that_of_the_draw():
    class Rows:
        def __iter__(self):
            return ((str(number), str(number % 9)) for number in range(20_000))

    tracemalloc.start()
    drawn = streaming_draw(Rows(), 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(drawn)) == 3 and peak < 50_000


def test_more_than_there_is_cannot_be_drawn():
    with pytest.raises(UserError, match="cannot draw 52 clips; ask for at least 1 and at most 51"):
        streaming_draw(CLIPS, 52)
    with pytest.raises(UserError, match="cannot draw 50 clips; ask for at least 1 and at most 2"):
        original_draw(["a", "b"], 50)
    with pytest.raises(UserError, match="cannot draw 0 clips"):
        streaming_draw(CLIPS, 0)
