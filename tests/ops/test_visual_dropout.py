"""Which visual tokens stay: evenly spaced ones, the best of each text, and what is cut along with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.ops.visual_dropout import (
    attention_of,
    best_of,
    compacted,
    dropped_by,
    evenly_spaced,
    kept_counts,
    logits_to,
    positions_in,
)
from tests.goldens import Golden


@pytest.mark.parametrize(
    "count, kept, places",
    [(5, 0, []), (5, 1, [0]), (5, 2, [0, 4]), (5, 5, [0, 1, 2, 3, 4]), (22, 5, [0, 5, 10, 15, 21])],
)
def test_spacing_is_even_from_the_first_to_the_last(count, kept, places):
    assert evenly_spaced(count, kept).tolist() == places


def test_spacing_is_that_of_torchs_integer_linspace():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for count in range(1, 200):
        for kept in range(1, count + 1):
            wanted = torch.linspace(0, count - 1, kept, dtype=torch.long)
            np.testing.assert_array_equal(evenly_spaced(count, kept), wanted)


@pytest.mark.golden
@pytest.mark.parametrize("fixture", ["s3_sampling_and_keep"])
def test_spacing_follows_the_fixture(fixture):
    tables = Golden(fixture).group("outputs/uniform_keep")
    assert tables
    for name, places in tables.items():
        count, kept = map(int, name.split("_"))
        np.testing.assert_array_equal(evenly_spaced(count, kept), places)


def test_spacing_differs_from_a_division_of_integers_where_torch_does():
    # As in the notes on the original: 46 tokens of which 34 stay.
    assert not np.array_equal(evenly_spaced(46, 34), np.arange(34) * 45 // 33)


def test_uniform_drops_take_tokens_of_those_that_are_left():
    ratios = (1.0, 0.5, 0.25)
    assert kept_counts(9, ratios) == (9, 4, 2)
    drops = dropped_by(9, ratios, 2)
    left = np.flatnonzero(drops != 1)
    np.testing.assert_array_equal(left, evenly_spaced(9, 4))
    np.testing.assert_array_equal(np.flatnonzero(drops == 0), left[evenly_spaced(4, 2)])
    assert not dropped_by(9, ratios, 0).any()


def test_attention_is_the_mean_of_heads_and_of_the_queries_that_ask():
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 2, 4, 8)).astype("f"), rng.normal(size=(2, 6, 2, 8)).astype("f")
    asking, valid = np.array([[3, 5], [4, 0]]), np.array([[True, True], [True, False]])
    segments = np.array([[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]])
    found = attention_of(logits_to(q, k), asking, valid, segments)
    wanted = np.zeros((2, 6))
    for row in range(2):
        asked = [n for n in range(2) if valid[row, n]]
        for number in asked:
            place = asking[row, number]
            seen = (np.arange(6) <= place) & (segments[row] == segments[row, place])
            for head in range(4):
                logits = k[row, :, head // 2] @ q[row, number, head] / np.sqrt(8)
                weights = np.where(seen, np.exp(logits), 0)
                wanted[row] += weights / weights.sum() / 4 / len(asked)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_best_of_each_text_stay_and_the_earlier_of_equals():
    scores = np.array([[9, 1, 2, 3, 2, 9, 5, 5, 4.0]], "f")
    candidates = np.array([[0, 1, 1, 1, 1, 0, 1, 1, 1]], bool)
    segments = np.array([[0, 0, 0, 0, 0, 0, 1, 1, 1]])
    keep = best_of(scores, candidates, segments, np.array([[2, 1]]))
    assert np.flatnonzero(keep).tolist() == [2, 3, 6]


def test_more_is_never_kept_than_there_is():
    candidates = np.array([[True, False, True]])
    keep = best_of(np.ones((1, 3), "f"), candidates, np.zeros((1, 3), int), np.array([[7]]))
    np.testing.assert_array_equal(keep, candidates)


def test_rows_are_compacted_alike_in_all_arrays():
    keep = np.array([[1, 0, 1, 1], [0, 0, 1, 0]], bool)
    x, ids = np.arange(16.0).reshape(2, 4, 2), np.arange(8).reshape(2, 4)
    states, numbers = jax.jit(lambda: compacted(keep, 3, (x, ids), (0.0, -1)))()
    assert numbers.tolist() == [[0, 2, 3], [6, -1, -1]]
    np.testing.assert_array_equal(states[0], x[0, [0, 2, 3]])
    np.testing.assert_array_equal(states[1], [x[1, 2], [0, 0], [0, 0]])


def test_the_gradient_of_compacting_goes_to_what_was_kept():
    keep = np.array([[True, False, True]])
    weight = jnp.array([[2.0, 3.0]])
    gradient = jax.grad(lambda x: jnp.sum(weight * compacted(keep, 2, x, 0.0)))(jnp.ones((1, 3)))
    assert gradient.tolist() == [[2.0, 0.0, 3.0]]


def test_positions_restart_in_every_text():
    assert positions_in(jnp.array([[0, 0, 0, 1, 1, -1], [2, 2, 0, 0, 1, 1]])).tolist() == [
        [0, 1, 2, 0, 1, 0],
        [0, 1, 0, 1, 0, 1],
    ]
