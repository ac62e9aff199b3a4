"""Reranks the best candidates of each query by a model that reads a text beside a clip."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.models.cross_modal.towers import CrossModalTowers
from ivjax.ops.cut import Params

UNJUDGED = -100.0  # of candidates that are not among the best; far below all logits, as in the originals

# Numbers of texts (n,) and of clips (n,) -> how well each text belongs to its clip (n,).
Judge = Callable[[np.ndarray, np.ndarray], np.ndarray]


def reranked(scores: np.ndarray, most: int, judge: Judge, queries: str = "texts") -> np.ndarray:
    """Returns judged scores (n, m) of the `most` best candidates of each query, `UNJUDGED` for the others.

    scores (n, m) are those of the towers; `queries` says whether rows are `texts` or `clips`.
    """
    most = min(most, scores.shape[1])
    best = np.argsort(-scores, axis=1, kind="stable")[:, :most]
    rows = np.repeat(np.arange(len(scores)), most)
    pair = (rows, best.reshape(-1)) if queries == "texts" else (best.reshape(-1), rows)
    found = np.full(scores.shape, UNJUDGED, np.float32)
    found[rows, best.reshape(-1)] = judge(*pair)
    return found


def judge_of(
    model: CrossModalTowers, params: Params, ids: np.ndarray, seen: jax.Array, batch: int = 64
) -> Judge:
    """Returns the judge of texts ids (n, L) and of clips, of which `seen` (m, N, C) are the tokens.

    Tokens are those of `model.seen`. A score is the logit of a match, as in the originals.
    """
    text: Any = model.text
    states = jax.jit(text.read)(params["text"], jnp.asarray(ids, jnp.int32))

    @jax.jit
    def score(params: Params, states: jax.Array, ids: jax.Array, seen: jax.Array) -> jax.Array:
        return model.judge(params, states, ids, seen)[:, 1]

    def judge(texts: np.ndarray, clips: np.ndarray) -> np.ndarray:
        found = []
        for first in range(0, len(texts), batch):
            # The last batch is filled up, so that one program serves all.
            t, c = (np.resize(x[first : first + batch], batch) for x in (texts, clips))
            found.append(np.asarray(score(params, states[t], jnp.asarray(ids[t], jnp.int32), seen[c])))
        return np.concatenate(found)[: len(texts)]

    return judge
