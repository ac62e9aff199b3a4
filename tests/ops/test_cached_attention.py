"""Attention to keys in a cache agrees with the matrix of all queries and keys, in blocks and as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.ops import cached_attention
from ivjax.ops.blockwise import Places, visible
from ivjax.ops.cached_attention import attend_to_stored


def dense(q, k, v, q_segments, kv_segments, places):
    k, v = (jnp.repeat(x, q.shape[2] // k.shape[1], axis=1) for x in (k, v))
    seen = visible(places, jnp.arange(q.shape[1]), jnp.arange(k.shape[2]), q_segments, kv_segments)[:, None]
    logits = jnp.einsum("bnhd,bhmd->bhnm", q, k) * q.shape[-1] ** -0.5
    weights = jnp.where(seen, jax.nn.softmax(jnp.where(seen, logits, -1e30), axis=-1), 0)
    return jnp.einsum("bhnm,bhmd->bnhd", weights, v)


@pytest.mark.parametrize("limit", [0, 10**6])
@pytest.mark.parametrize(
    "queries, slots, window, start", [(37, 91, None, 54), (37, 91, 23, 40), (1, 50, None, 20)]
)
def test_blocks_and_the_whole_agree_with_the_matrix(queries, slots, window, start, limit, monkeypatch):
    monkeypatch.setattr(cached_attention, "BLOCK", 16)
    monkeypatch.setattr(cached_attention, "_MATRIX", limit)
    rng = np.random.default_rng(0)
    q = rng.normal(size=(2, queries, 4, 8)).astype("f")
    k, v = rng.normal(size=(2, 2, 2, slots, 8)).astype("f")
    # Padding before the second row's text, which no token of it sees.
    theirs = np.where(np.arange(slots) >= np.array([[0], [7]]), 0, -1)
    mine, places = theirs[:, start : start + queries], Places(True, window, jnp.int32(start))
    lengths = []

    def read(first, count):
        lengths.append(count)
        return tuple(jax.lax.dynamic_slice_in_dim(jnp.asarray(x), first, count, 2) for x in (k, v))

    found = jax.jit(lambda q: attend_to_stored(q, read, slots, mine, theirs, places))(q)
    np.testing.assert_allclose(found, dense(q, k, v, mine, theirs, places), rtol=1e-4, atol=2e-5)
    assert max(lengths) == (slots if limit else 16)
