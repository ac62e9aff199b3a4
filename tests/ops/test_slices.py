"""Batches in chunks give what they give whole, with their gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.ops.slices import in_chunks


@pytest.mark.parametrize("most", [None, 5, 3])
def test_chunks_give_the_rows_of_the_whole_in_order(most):
    x = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)

    def loss(x):
        found = in_chunks(lambda rows: jnp.tanh(rows["x"]).sum(-1), {"x": x}, most)
        return jnp.sum(found * jnp.arange(12)), found

    (_, found), gradient = jax.value_and_grad(loss, has_aux=True)(x)
    np.testing.assert_allclose(found, np.tanh(x).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(gradient, np.arange(12)[:, None] * (1 - np.tanh(x) ** 2), rtol=1e-4, atol=1e-6)
