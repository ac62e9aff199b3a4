"""A stack of blocks gives the same gradients however it is compiled."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.experiment.computing import Compute
from ivjax.models.beats import BeatsSize
from ivjax.models.bert import FusionBertSize
from ivjax.models.layers import Block
from ivjax.models.stacks import run_blocks
from ivjax.ops.randomness import Dropout
from ivjax.ops.trees import paths_of
from tests.models.params import any_params

DEPTH, TAPS = 3, (0, 2)
FLOAT32 = Compute("float32")


class Stack(nn.Module):
    """The blocks of a tower alone."""

    compute: Compute

    @nn.compact
    def __call__(self, x, keep=None):
        block = Block(heads=2, mlp_width=16, layer_scale=0.1, gelu="erf", name="blocks")
        return run_blocks(block, DEPTH, x, self.compute, keep, TAPS)


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
        return Stack(FLOAT32).init(key, X)["params"]


@pytest.fixture(scope="module")
def plain():
    """Parameters of the stack, and their gradients through a scan that keeps everything."""
    params = any_params(Model)
    return params, gradients(Stack(FLOAT32), params)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"scan": False},
        {"remat": "dots"},
        {"remat": "full"},
        {"remat": "offload"},
        {"remat": "full", "remat_blocks": 1},
        {"remat": "full", "remat_blocks": 9},
        {"remat": "dots", "scan": False},
    ],
    ids=str,
)
def test_unrolled_and_recomputed_blocks_have_the_gradients_of_a_plain_scan(plain, changes):
    params, wanted = plain
    found, text = gradients(Stack(dataclasses.replace(FLOAT32, **changes)), params)
    assert ("remat" in text or "checkpoint" in text) == ("remat" in changes)
    # Outside of a loop the compiler would merge what is computed again with the first time.
    looped = changes.get("scan", True) and changes.get("remat_blocks") != 1
    assert "remat" not in changes or f"prevent_cse={not looped}" in text
    for path, gradient in found.items():
        np.testing.assert_allclose(gradient, wanted[path], rtol=1e-5, atol=1e-6, err_msg=path)


def traced_gradients(compute):
    """BEATs and BERT with fusion layers, traced: the gradients of both of a loss, and their parameters."""
    beats = BeatsSize(8, DEPTH, 2, 16, 8, 4, frames=8, bins=8, place_taps=2, place_groups=2, buckets=8)
    bert = FusionBertSize(8, DEPTH, 2, 16, 4, 5, 12, places=5, fusion=2, seen=8, start=2, mask=4)
    audio, text = beats.build(compute), bert.build(compute)
    sound = np.random.default_rng(2).normal(size=(2, 8, 8)).astype(np.float32)
    ids = np.array([[2, 5, 6, 0, 0], [2, 7, 8, 9, 3]], np.int32)

    def loss(params):
        seen = audio.encode(params["audio"], sound)
        drop = Dropout(jax.random.split(jax.random.key(0), 2), 0.2)
        states = text.read(params["text"], ids, drop)
        return jnp.sum(jnp.sin(text.fuse(params["text"], states, ids, seen, drop)[:, 0]))

    params = {"audio": any_params(audio), "text": any_params(text)}
    return jax.jit(jax.grad(loss)).trace(params), params


@pytest.mark.parametrize(
    "changes, loops",
    [
        # Loops under a policy: of BEATs, of the layer that reads, of the two that fuse.
        ({"remat": "dots", "scan": False}, 3),
        ({"remat": "full", "remat_blocks": 1}, 2),
    ],
    ids=str,
)
def test_as_many_layers_of_sounds_and_texts_are_computed_again_as_asked(changes, loops):
    text = str(traced_gradients(dataclasses.replace(FLOAT32, **changes))[0].jaxpr)
    # Each stands in the program for its backward pass.
    assert text.count("prevent_cse=") == loops


@pytest.mark.slow
def test_sounds_and_texts_that_are_computed_again_have_the_same_gradients():
    plain, params = traced_gradients(FLOAT32)
    # Two of three layers of the sounds, the one that reads, and one of the two that fuse.
    again, _ = traced_gradients(dataclasses.replace(FLOAT32, remat="full", remat_blocks=2))
    wanted, found = (dict(paths_of(t.lower().compile()(params))) for t in (plain, again))
    for path, gradient in found.items():
        np.testing.assert_allclose(gradient, wanted[path], rtol=1e-4, atol=1e-6, err_msg=path)
