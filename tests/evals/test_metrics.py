"""Ranks, recalls, accuracies and mAP against the originals, with ties, several captions, several videos."""

import itertools
import re

import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.evals.scoring.options import option_cosines
from ivjax.evals.scoring.rank_metrics import (
    average_precisions,
    choice_accuracy,
    class_metrics,
    find_ranks,
    rank_metrics,
    retrieval_metrics,
)
from ivjax.evals.scoring.similarity import similarity, softmax
from tests.evals.fakes import dual_softmax
from tests.goldens import Golden, close

GOLDEN = "retrieval_metrics"
_THEIRS = {"R1": "r1", "R5": "r5", "R10": "r10", "R50": "r50", "MedR": "medr", "MeanR": "meanr"}
_THEIRS["geometric_mean_R1-R5-R10"] = "r_geometric"


@pytest.fixture(scope="module")
def golden():
    return Golden(GOLDEN)


def owners(golden, name, texts):
    """The right videos of each text of a matrix."""
    inputs = golden.group("inputs")
    if name == "multicap":
        return [[int(video)] for video in inputs["multicap_txt2img"]]
    if name == "actrec":
        return [np.flatnonzero(inputs["actrec_labels"] == text).tolist() for text in range(texts)]
    each = golden.config["caps"] if name in ("fixedcap", "ties") else 1
    return [[text // each] for text in range(texts)]


def ranks(golden, name):
    """Ranks of both directions of a matrix of the fixture."""
    inputs = golden.group("inputs")
    if name == "dsl":
        v2t, t2v = (softmax(golden[f"outputs/dsl_{side}"]) for side in ("i2t", "t2i"))
    elif f"{name}_v2t" in inputs:
        v2t, t2v = inputs[f"{name}_v2t"], inputs[f"{name}_v2t"].T
    else:
        v2t, t2v = inputs[f"{name}_t2v"].T, inputs[f"{name}_t2v"]
    videos_of = owners(golden, name, len(t2v))
    texts_of = [[text for text, videos in enumerate(videos_of) if v in videos] for v in range(len(v2t))]
    return find_ranks([t2v], videos_of), find_ranks([v2t], texts_of)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["one2one", "multicap", "fixedcap", "actrec", "dsl"])
def test_retrieval_metrics_recalls_are_those_of_internvideo2(golden, name):
    t2v, v2t = ranks(golden, name)
    ours = retrieval_metrics(t2v.places(), v2t.places())
    expected = golden.json["results"][f"{name}_itm_eval"]
    assert {key: ours[key] for key in expected} == expected


@pytest.mark.golden
@pytest.mark.parametrize("name", ["one2one", "fixedcap", "ties"])
@pytest.mark.parametrize("side", ["t2v", "v2t"])
def test_retrieval_metrics_ranks_are_those_of_internvideo1(golden, name, side):
    found = ranks(golden, name)[side == "v2t"]
    ours = rank_metrics(found.places("first" if side == "t2v" else "middle"))
    ending = {"t2v": "_optimistic", "v2t": "_average"}[side] if name == "ties" else ""
    theirs = golden.json["results"][f"{name}_{side}_metrics{ending}"]
    assert {key: ours[_THEIRS[key]] for key in theirs} == pytest.approx(theirs, abs=1e-5)
    assert (found.wrong > 0).any() == (name == "ties")


@pytest.mark.golden
def test_retrieval_metrics_dual_softmax_is_the_originals(golden):
    scores = golden["inputs/dsl_sim"]
    for side, matrix in (("i2t", scores), ("t2i", scores.T)):
        close(dual_softmax(matrix), golden[f"outputs/dsl_{side}"], rtol=0, atol=1e-6)
        close(softmax(dual_softmax(matrix)), golden[f"outputs/dsl_{side}_softmaxed"], rtol=0, atol=1e-6)


def temperature(golden, of):
    """The temperature that the fixture's description gives for `of`."""
    told = " ".join(golden.json["tensors"].values())
    return float(re.search(rf"{of}[^;]*?temp ([\d.]+\d)", told)[1])


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.golden
@pytest.mark.parametrize("aggregate", ["mean", "max"])
@pytest.mark.parametrize(("vision", "text", "case"), [("3d", "2d", "v3"), ("2d", "3d", "t3")])
def test_retrieval_metrics_aggregate_clips_and_prompts_as_the_original_does(
    golden, aggregate, vision, text, case
):
    videos = unit(golden[f"inputs/agg_vision{vision}"])
    texts = unit(golden[f"inputs/agg_text{text}"])
    for side, pair in (("v2t", (videos, texts)), ("t2v", (texts, videos))):
        expected = golden[f"outputs/agg_{aggregate}_{case}_{side}"]
        close(similarity(*pair, aggregate) / temperature(golden, "agg_"), expected, rtol=0, atol=1e-6)


@pytest.mark.golden
def test_retrieval_metrics_multiple_choice_is_the_originals(golden):
    videos, options = unit(golden["inputs/mc_video"]), unit(golden["inputs/mc_text"])
    scores = [
        softmax(option_cosines(v, some) / temperature(golden, "mc_scores"))
        for v, some in zip(videos, options, strict=True)
    ]
    close(np.stack(scores), golden["outputs/mc_scores"], rtol=0, atol=1e-6)
    accuracy = choice_accuracy(scores, golden["inputs/mc_answer"])
    assert round(accuracy, 2) == golden.json["results"]["mc_acc"]


@pytest.mark.golden
def test_retrieval_metrics_mean_average_precision_is_the_originals(golden):
    found = average_precisions(golden["inputs/map_scores"], golden["inputs/map_targets"])
    close(found, golden["outputs/map_ap_per_class"], rtol=0, atol=1e-6)
    assert 100 * found.mean() == pytest.approx(golden.json["results"]["map"], abs=1e-4)


def test_a_model_that_gives_all_clips_one_vector_finds_nothing_unless_ties_are_in_its_favour():
    found = find_ranks([np.ones((2, 9), np.float32), np.ones((1, 9), np.float32)], [[0], [4], [8]])
    np.testing.assert_array_equal(found.places(), [4, 4, 4])
    assert rank_metrics(found.places())["r1"] == 0
    assert rank_metrics(found.places("first"))["r1"] == 100


def test_the_best_of_several_right_answers_counts():
    strip = np.array([[0.9, 0.1, 0.5, 0.7], [0.9, 0.8, 0.8, 0.8]], np.float32)
    found = find_ranks([strip], [[1, 3], [1, 2]])
    assert [values.tolist() for values in (found.above, found.wrong, found.right)] == [[1, 1], [0, 1], [0, 1]]
    np.testing.assert_allclose(found.places(), [1, 1 + 1 / 3])
    assert found.places("middle").tolist() == [1, 2] and found.places("first").tolist() == [1, 1]


def test_the_expected_place_is_the_mean_over_all_orders():
    for wrong, right in ((1, 1), (2, 2), (3, 1), (0, 3)):
        truth = [False] * wrong + [True] * right
        firsts = [order.index(True) for order in itertools.permutations(truth)]
        found = find_ranks([np.zeros((1, wrong + right))], [list(range(right))])
        np.testing.assert_allclose(found.places(), [np.mean(firsts)])


def test_a_query_without_a_right_answer_is_a_miss_and_scores_must_be_finite():
    metrics = rank_metrics(find_ranks([np.zeros((1, 3))], [[]]).places())
    assert metrics["r50"] == 0 and metrics["meanr"] == np.inf
    with pytest.raises(UserError, match="not finite"):
        find_ranks([np.array([[0.0, np.nan]])], [[0]])
    with pytest.raises(ValueError, match="scores of 1 queries, right answers of 2"):
        find_ranks([np.zeros((1, 3))], [[0], [1]])


def test_a_tie_for_the_best_option_is_not_a_right_choice():
    scores = [np.array([0.2, 0.8]), np.array([0.5, 0.5]), np.array([0.1, 0.3, 0.6])]
    assert choice_accuracy(scores, [1, 0, 2]) == pytest.approx(200 / 3)


def test_average_precision_is_that_of_a_count_by_hand():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    right = np.array([[1, 0], [0, 0], [1, 0]])
    np.testing.assert_allclose(average_precisions(scores, right), [(1 + 2 / 3) / 2, 0])


def test_top_5_is_only_told_where_it_can_be_missed():
    places = np.array([0, 1, 4, 5])
    assert class_metrics(places, 6) == {"top1": 25.0, "top5": 75.0, "mean": 50.0}
    assert class_metrics(places, 5) == {"top1": 25.0}
