"""Reranking by the fusion layers, against the original's evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.stage2 import STAGE2
from ivjax.evals.scoring.reranking import UNJUDGED, judge_of, reranked
from tests.goldens import Golden, close
from tests.stage2 import FLOAT32, params_of, stage_of


def softmax(scores):
    return np.asarray(jax.nn.softmax(jnp.asarray(scores), axis=1))


def test_only_the_best_candidates_are_judged():
    scores = np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]], np.float32)
    found = reranked(scores, 2, lambda texts, clips: 10.0 * texts + clips)
    np.testing.assert_array_equal(found, [[UNJUDGED, 1, 2], [10, 11, UNJUDGED]])
    turned = reranked(scores, 1, lambda texts, clips: 10.0 * texts + clips, queries="clips")
    np.testing.assert_array_equal(turned, [[UNJUDGED, 10, UNJUDGED], [1, UNJUDGED, UNJUDGED]])


@pytest.mark.golden
def test_stage2_visual_tiny_retrieval_scores_are_the_originals():
    golden = Golden("stage2_visual_tiny")
    params, model = params_of(STAGE2, golden.group("params")), stage_of(golden).model(FLOAT32)
    video = jnp.moveaxis(jnp.asarray(golden["inputs/video"]), 2, -1)
    ids = np.asarray(golden["inputs/eval_input_ids"], np.int32)

    @jax.jit
    def features(params):
        clips, texts = model.unit_video(params, video), model.unit_words(params, jnp.asarray(ids))
        return clips @ texts.T, model.seen(params, video)

    cosines, seen = map(np.asarray, features(params))
    judge, most = judge_of(model, params, ids, seen, 8), golden.config["k_test"]
    close(softmax(cosines), golden["outputs/eval/i2t_sim"], rtol=2e-4)
    close(softmax(cosines.T), golden["outputs/eval/t2i_sim"], rtol=2e-4)
    found = reranked(cosines, most, judge, "clips")
    close(softmax(found), golden["outputs/eval/i2t_match"], rtol=2e-4)
    close(softmax(reranked(cosines.T, most, judge)), golden["outputs/eval/t2i_match"], rtol=2e-4)
