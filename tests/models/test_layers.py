"""A stack of blocks gives the same gradients however it is compiled."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.experiment.computing import Remat
from ivjax.models.layers import Block, run_blocks
from ivjax.ops.trees import paths_of
from tests.models.params import any_params

DEPTH, TAPS = 3, (0, 2)


class Stack(nn.Module):
    """The blocks of a tower alone."""

    scan: bool = True
    remat: Remat = "none"
    remat_blocks: int | None = None

    @nn.compact
    def __call__(self, x, keep=None):
        block = Block(heads=2, mlp_width=16, layer_scale=0.1, gelu="erf", name="blocks")
        return run_blocks(block, DEPTH, x, keep, TAPS, self.scan, None, self.remat, self.remat_blocks)


X = np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)
KEEP = np.ones((DEPTH, 2, 2), np.float32)
KEEP[1, 0, 0] = 0


def gradients(stack, params):
    """The gradients of a loss of the last stream and the taps by path, and the text of their program."""

    def loss(params):
        x, taps = stack.apply({"params": params}, X, KEEP)
        return jnp.sum(jnp.sin(taps)) + jnp.sum(x)

    traced = jax.jit(jax.grad(loss)).trace(params)
    return dict(paths_of(traced.lower().compile()(params))), str(traced.jaxpr)


class Model:
    """The stack as a model."""

    @staticmethod
    def init(key):
        return Stack().init(key, X)["params"]


@pytest.fixture(scope="module")
def plain():
    """Parameters of the stack, and their gradients through a scan that keeps everything."""
    params = any_params(Model)
    return params, gradients(Stack(), params)[0]


@pytest.mark.parametrize(
    "scan, remat, count",
    [
        (False, "none", None),
        (True, "dots", None),
        (True, "full", None),
        (True, "offload", None),
        (True, "full", 1),
        (True, "full", 9),
    ],
)
def test_unrolled_and_recomputed_blocks_have_the_gradients_of_a_plain_scan(plain, scan, remat, count):
    params, wanted = plain
    found, text = gradients(Stack(scan, remat, count), params)
    assert ("remat" in text or "checkpoint" in text) == (remat != "none")
    for path, gradient in found.items():
        np.testing.assert_allclose(gradient, wanted[path], rtol=1e-5, atol=1e-6, err_msg=path)
