"""Reranking by the fusion layers: against the original, and against judging every pair by itself."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.stage2 import STAGE2
from ivjax.errors import UserError
from ivjax.evals.hearing import stacked
from ivjax.evals.judging import PairJudge, TokenReader
from ivjax.evals.pair_model import PairModel
from ivjax.evals.scoring.ranking import pair_captions, reranked_metrics
from ivjax.evals.scoring.reranking import UNJUDGED, best_candidates, judge_both_ways, reranked
from ivjax.evals.suites import Retrieval
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.train.mesh import build_mesh
from tests.evals.fakes import annotated, setting
from tests.evals.stage2_model import CLIPS, WORDS, dense, noise, pair, read_noise
from tests.goldens import Golden, close
from tests.stage2 import FLOAT32, params_of, stage_of


def softmax(scores):
    return np.asarray(jax.nn.softmax(jnp.asarray(scores), axis=1))


def test_the_best_candidates_are_judged_and_the_others_keep_their_order_behind_them():
    scores = np.array([[0.1, 0.9, 0.5, 0.4], [0.3, 0.2, 0.3, 0.1]], np.float32)
    best = best_candidates([scores[:1], scores[1:]], 2)
    np.testing.assert_array_equal(best, [[1, 2], [0, 2]])
    judged = np.array([[-3.0, 7], [1, 2]], np.float32)
    (found,) = reranked([scores], best, judged)
    np.testing.assert_allclose(found[0], [UNJUDGED + 0.1, -3, 7, UNJUDGED + 0.4])
    assert np.argsort(-found, axis=1).tolist() == [[2, 1, 3, 0], [2, 0, 1, 3]]
    (first, second) = reranked([scores[:1], scores[1:]], best, judged)
    np.testing.assert_array_equal(np.concatenate([first, second]), found)
    (weighed,) = reranked([scores], best, judged, weight=20.0)
    np.testing.assert_allclose(weighed[0], [UNJUDGED + 0.1, -3 + 18, 7 + 10, UNJUDGED + 0.4], rtol=1e-6)


def test_a_pair_that_is_among_the_best_both_ways_is_judged_once():
    asked = []

    def judge(texts, clips):
        asked.extend(zip(texts.tolist(), clips.tolist(), strict=True))
        return 10.0 * texts + clips

    best_clips, best_texts = np.array([[2, 0], [1, 2]]), np.array([[0], [1], [1]])
    of_texts, of_clips = judge_both_ways(best_clips, best_texts, judge)
    np.testing.assert_array_equal(of_texts, [[2, 0], [11, 12]])
    np.testing.assert_array_equal(of_clips, [[0], [11], [12]])
    assert sorted(asked) == [(0, 0), (0, 2), (1, 1), (1, 2)]


class Rows:
    """A tokenizer that knows its texts by their numbers."""

    def __init__(self, ids):
        self._ids = ids

    def encode(self, text):
        return self._ids[int(text)]


@pytest.mark.golden
def test_stage2_visual_tiny_retrieval_scores_are_the_originals():
    golden = Golden("stage2_visual_tiny")
    params, model = params_of(STAGE2, golden.group("params")), stage_of(golden).model(FLOAT32)
    video = np.moveaxis(golden["inputs/video"], 2, -1)
    ids = np.asarray(golden["inputs/eval_input_ids"], np.int32)
    texts = [str(number) for number in range(len(ids))]
    mesh = build_mesh(MeshShape(), jax.devices()[:1])
    found = PairModel(model, params, Rows(ids), 4, mesh)
    reader = TokenReader(found)
    vectors, tokens = reader.parted(reader.video(video)[:, None])
    cosines = vectors[:, 0] @ found.text(texts).T
    close(softmax(cosines), golden["outputs/eval/i2t_sim"], rtol=2e-4)
    close(softmax(cosines.T), golden["outputs/eval/t2i_sim"], rtol=2e-4)
    most, judge = golden.config["k_test"], PairJudge(found, texts, tokens)
    best = best_candidates([cosines.T], most), best_candidates([cosines], most)
    of_texts, of_clips = judge_both_ways(*best, judge)
    (t2v,), (v2t,) = reranked([cosines.T], best[0], of_texts), reranked([cosines], best[1], of_clips)
    close(softmax(v2t), golden["outputs/eval/i2t_match"], rtol=2e-4)
    close(softmax(t2v), golden["outputs/eval/t2i_match"], rtol=2e-4)


@pytest.fixture(scope="module")
def test_set(tmp_path_factory):
    rows = [{"video": f"{number}.mp4", "caption": text} for number, text in enumerate(WORDS)]
    return annotated(tmp_path_factory.mktemp("set"), rows)


def by_hand(cosines, logits, most):
    """Places of the right candidates, all of which lie on the diagonal."""
    places = []
    for row in range(len(cosines)):
        order = np.argsort(-cosines[row])
        judged = sorted(order[:most], key=lambda number: -logits[row, number])
        places.append([*judged, *order[most:]].index(row))
    return np.array(places)


@pytest.mark.parametrize(
    "medium, sides",
    [
        ("both", ("t2av", "av2t")),
        pytest.param("video", ("t2v", "v2t"), marks=pytest.mark.slow),
        pytest.param("audio", ("t2a", "a2t"), marks=pytest.mark.slow),
    ],
)
def test_retrieval_reranks_as_judging_every_pair_by_itself_would(test_set, medium, sides):
    cosines, logits = dense(medium)
    assert np.abs(np.diff(np.sort(logits.ravel()))).min() > 1e-5  # orders do not hang on rounding
    for most in (2, CLIPS):
        suite = Retrieval(rerank=most, medium=medium)
        result = suite.score(setting(pair(medium), test_set, read=read_noise, batch=4))
        for side, (scores, judged) in zip(sides, ((cosines, logits), (cosines.T, logits.T)), strict=True):
            plain, places = by_hand(scores, scores, 0), by_hand(scores, judged, most)
            assert result.metrics[f"{side}_meanr"] == round(plain.mean() + 1, 2)
            assert result.metrics[f"{side}_rerank_meanr"] == round(places.mean() + 1, 2)
            assert result.metrics[f"{side}_rerank_r1"] == round(100 * np.mean(places == 0), 2)
        assert set(result.metrics) <= set(Retrieval.METRICS) and "rerank_r_mean" in result.metrics
    assert result.protocol["reranked"] == "the 6 best of each query, by the logit of a match"
    assert "rerank_r_mean, both" in result.table() and json.loads(result.json())
    told = {"both": "seen and heard", "audio": "heard", "video": None}
    assert result.protocol.get("clips are") == told[medium]


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_odds_of_a_match_are_weighed_with_the_cosine(test_set, weight):
    model = pair("both")
    cosines, odds = dense("both", odds=True)
    suite = Retrieval(rerank=CLIPS, rerank_by="match_and_cosine", match_weight=weight, medium="both")
    result = suite.score(setting(model, test_set, read=read_noise, batch=4))
    scores = weight * odds + cosines / model.temperature
    for other in (odds, cosines):  # the sum is neither one's order
        assert (scores.argsort(0) != other.argsort(0)).any()
    for side, judged in (("t2av", scores), ("av2t", scores.T)):
        places = by_hand(cosines, judged, CLIPS)
        assert result.metrics[f"{side}_rerank_meanr"] == round(places.mean() + 1, 2)
    told = "the logarithm of the odds of a match + cosine / the model's temperature"
    assert result.protocol["reranked"].endswith("by " + ("0.25 * " if weight != 1 else "") + told)


def test_a_judge_of_any_pairs_gives_their_logits_in_their_order():
    _, logits = dense("both")
    model = pair("both")
    reader = TokenReader(model)
    clips = stacked([noise(number, model.frames, model.image, model.hearing) for number in range(CLIPS)])
    _, tokens = reader.parted(reader.video(clips)[:, None])
    judge = PairJudge(model, WORDS, tokens)
    texts, beside = np.random.default_rng(0).integers(0, CLIPS, (2, 40))
    np.testing.assert_allclose(judge(texts, beside), logits[texts, beside], atol=1e-5)


@pytest.mark.slow
def test_eight_devices_judge_as_one_does(test_set):
    suite = Retrieval(rerank=3, medium="both")
    one, eight = (
        suite.score(setting(pair("both", devices), test_set, read=read_noise, batch=8)) for devices in (1, 8)
    )
    assert one.metrics == eight.metrics


def test_dual_softmax_chooses_who_is_judged():
    # Without it video 0 is the best one of both texts, with it each text has one of its own.
    texts, videos = np.array([[1, 0.2, 0], [1, 0.8, 0]]), np.array([[1.0, 0, 0], [0.1, 1, 0]])
    pairs, asked = pair_captions([("x",), ("y",)], False), []

    def judge(texts, clips):
        asked.append({*zip(texts.tolist(), clips.tolist(), strict=True)})
        return np.ones(len(texts), np.float32)

    for dsl in (False, True):
        reranked_metrics(texts, videos, pairs, Retrieval(rerank=1, dsl=dsl, dsl_scale=20.0), judge)
    assert (1, 0) in asked[0] and (1, 0) not in asked[1]


def test_what_cannot_be_reranked_is_one_sentence(test_set):
    with pytest.raises(UserError, match="rerank judges one clip of each video, and clips=2; set clips to 1"):
        Retrieval(rerank=4, clips=2)
    for wrong in ({"rerank": 4, "dsl": True}, {}):
        with pytest.raises(UserError, match="rerank_by=match_and_cosine adds cosines .*: give their number"):
            Retrieval(rerank_by="match_and_cosine", **wrong)
    for wrong in ({"match_weight": 0.5}, {"match_weight": 0.0, "rerank_by": "match_and_cosine"}):
        with pytest.raises(UserError, match="must be above 0, and needs rerank_by=match_and_cosine"):
            Retrieval(rerank=4, **wrong)
    with pytest.raises(UserError, match="rerank must be 0 or more, got -1"):
        Retrieval(rerank=-1)
