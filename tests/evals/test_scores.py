"""Scores in strips: the same ranks as from the whole matrix, in a fraction of its memory."""

import tracemalloc

import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.evals.scoring import similarity as scores
from ivjax.evals.scoring.rank_metrics import find_ranks
from ivjax.evals.scoring.ranking import pair_captions, ranking_metrics
from ivjax.evals.scoring.similarity import similarity, strips, unit_mean
from ivjax.evals.suites import Retrieval
from ivjax.evals.suites.suite import Scoring
from tests.evals.fakes import dual_softmax


def unit_rows(rng, *shape):
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def with_doubles(rng, count, *rest):
    """Unit vectors, a third of which occur again further on."""
    vectors = unit_rows(rng, count, *rest)
    vectors[-(count // 3) :] = vectors[: count // 3]
    return vectors


def whole(queries, candidates, scoring):
    """The matrix of all scores, made in another way."""
    parts = [side if side.ndim == 3 else side[:, None] for side in (queries, candidates)]
    each = np.einsum("qpd,ckd->qcpk", *(part.astype(np.float64) for part in parts))
    each = each.reshape(*each.shape[:2], -1)
    folded = {
        "mean": each.mean(-1),
        "max": each.max(-1),
        "logsumexp": np.log(np.exp(each).sum(-1)),
        "embedding": unit_mean(queries).astype(np.float64) @ unit_mean(candidates).T.astype(np.float64),
    }[scoring.aggregate].astype(np.float32)
    if not scoring.dsl:
        return folded
    powers = np.exp(scoring.dsl_scale * folded.astype(np.float64))
    return (folded * powers / powers.sum(0)).astype(np.float32)


@pytest.mark.parametrize("dsl", [False, True])
@pytest.mark.parametrize("aggregate", ["embedding", "mean", "max", "logsumexp"])
def test_strips_of_any_size_are_the_whole_matrix(monkeypatch, aggregate, dsl):
    rng = np.random.default_rng(0)
    texts, videos = with_doubles(rng, 41, 24), with_doubles(rng, 53, 3, 24)
    for queries, candidates in ((texts, videos), (videos, texts)):
        for rows, columns in ((1, 53), (7, 10), (16, 1), (100, 4096)):
            monkeypatch.setattr(scores, "_COLUMNS", columns)
            scoring = Scoring(aggregate, dsl, 20.0, rows)
            found = np.concatenate(list(strips(queries, candidates, scoring)))
            np.testing.assert_allclose(found, whole(queries, candidates, scoring), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("dsl", [False, True])
def test_ranks_in_strips_are_those_of_the_whole_matrix_with_ties_and_doubles(monkeypatch, dsl):
    rng = np.random.default_rng(1)
    texts, videos = with_doubles(rng, 120, 32), with_doubles(rng, 60, 32)
    right = [[number // 2] for number in range(120)]
    matrix = similarity(texts, videos)
    expected = find_ranks([dual_softmax(matrix, 5.0) if dsl else matrix], right)
    assert (expected.wrong > 0).sum() > 20
    for rows, columns in ((1, 7), (16, 60), (50, 13), (120, 1)):
        monkeypatch.setattr(scores, "_COLUMNS", columns)
        found = find_ranks(strips(texts, videos, Scoring(dsl=dsl, dsl_scale=5.0, rows=rows)), right)
        for ties in ("expected", "middle", "first"):
            np.testing.assert_array_equal(found.places(ties), expected.places(ties))


def test_strips_keep_whole_numbers_exact():
    rng = np.random.default_rng(2)
    queries, candidates = (rng.integers(-2, 3, (n, 8)).astype(np.float32) for n in (30, 40))
    found = np.concatenate(list(strips(queries, candidates, Scoring(rows=7))))
    np.testing.assert_array_equal(found, queries @ candidates.T)


@pytest.mark.parametrize("dsl", [False, True])
def test_the_whole_matrix_is_never_in_memory(monkeypatch, dsl):
    count = 2500
    monkeypatch.setattr(scores, "_STRIP_BYTES", 2**18)
    monkeypatch.setattr(scores, "_COLUMNS", 512)
    rng = np.random.default_rng(3)
    texts, videos = unit_rows(rng, count, 16), unit_rows(rng, count, 16)
    videos[:] = texts
    pairs = pair_captions([[f"text {number}"] for number in range(count)], same_text=True)
    tracemalloc.start()
    metrics = ranking_metrics(texts, videos, pairs, Retrieval(dsl=dsl))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert metrics["t2v_r1"] == metrics["v2t_r1"] == 100
    assert peak < count * count * 4 / 5


def test_dual_softmax_looks_at_all_queries_and_can_be_sharpened():
    # Candidate 0 is near to everything; dual softmax takes it away from query 1.
    plain = np.array([[0.9, 0.1], [0.6, 0.5]], np.float32)
    assert plain.argmax(1).tolist() == [0, 0]
    assert dual_softmax(plain, 20.0).argmax(1).tolist() == [0, 1]
    assert dual_softmax(plain, 1e4)[0, 0] == pytest.approx(0.9)


def test_clips_are_averaged_to_a_unit_vector():
    merged = unit_mean(np.array([[[1.0, 0], [0, 1]]], np.float32))
    np.testing.assert_allclose(merged, [[0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_options_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="aggregate must be one of .*, max, logsumexp, got 'median'"):
        Retrieval(aggregate="median")
    with pytest.raises(UserError, match="dsl_scale must be above 0, got 0"):
        Retrieval(dsl=True, dsl_scale=0)
