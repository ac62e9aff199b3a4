"""Cross entropy in blocks of words against all logits at once: values, gradients, devices, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.experiment.mesh_shape import MeshShape
from ivjax.ops import word_losses as module
from ivjax.ops.word_losses import IGNORED, word_losses
from ivjax.train.mesh import build_mesh
from tests.goldens import close

ROWS, TOKENS, WIDTH, RANK, WORDS = 4, 6, 8, 2, 1001  # no number of devices divides the words


def whole(states, kernels, labels):
    logits = sum(x.astype(jnp.float32) @ kernel for x, kernel in zip(states, kernels, strict=True))
    said = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(labels, 0)[..., None], axis=-1)
    asked = labels != IGNORED
    return jnp.where(asked, -said[..., 0], 0.0), asked & (logits.argmax(-1) == labels)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    states = tuple(rng.normal(size=(ROWS, TOKENS, width)).astype(np.float32) for width in (WIDTH, RANK))
    kernels = tuple(rng.normal(size=(width, WORDS)).astype(np.float32) for width in (WIDTH, RANK))
    labels = rng.integers(0, WORDS, (ROWS, TOKENS)).astype(np.int32)
    labels[0, :3] = IGNORED
    labels[1, 0], labels[1, 1] = WORDS - 1, 0
    weights = rng.uniform(size=(ROWS, TOKENS)).astype(np.float32)
    weighed = jax.jit(
        jax.value_and_grad(lambda s, k: _sum(whole, s, k, labels, weights), (0, 1), has_aux=True)
    )
    return states, kernels, labels, weights, weighed(states, kernels)


def _sum(losses, states, kernels, labels, weights):
    loss, right = losses(states, kernels, labels)
    return jnp.sum(loss * weights), (loss, right)


def check(case, monkeypatch):
    states, kernels, labels, weights, wanted = case
    # Blocks of 128 words, so that there are several, and the last one reaches back.
    monkeypatch.setattr(module, "_LOGITS", 1)

    @jax.jit
    def found(states, kernels):
        return jax.value_and_grad(
            lambda s, k: _sum(word_losses, s, k, labels, weights), (0, 1), has_aux=True
        )(states, kernels)

    jax.tree.map(lambda a, b: close(a, b, rtol=1e-5), found(states, kernels), wanted)


def test_blocks_of_words_have_the_loss_and_the_gradients_of_all_logits(case, monkeypatch):
    check(case, monkeypatch)


@pytest.mark.parametrize("mesh", [{"fsdp": 2, "tensor": 2}, {"tensor": 2, "context": 2}], ids=str)
def test_words_tokens_and_channels_are_split_over_devices(case, monkeypatch, mesh):
    with jax.set_mesh(build_mesh(MeshShape(**{"data": 1, **mesh}), jax.devices()[:4])):
        check(case, monkeypatch)


def test_a_frozen_head_costs_no_gradient():
    shape = jax.ShapeDtypeStruct
    states, kernel = shape((1, 256, 64), jnp.float32), shape((64, 4096), jnp.float32)
    labels = jnp.zeros((1, 256), jnp.int32)

    def flops(arguments):
        loss = lambda x, k: word_losses((x,), (k,), labels).loss.sum()  # noqa: E731
        return jax.jit(jax.grad(loss, arguments)).lower(states, kernel).compile().cost_analysis()["flops"]

    product = 2 * 256 * 64 * 4096
    assert flops((0, 1)) - flops((0,)) == pytest.approx(product, rel=0.2)


def test_8192_tokens_of_92553_words_take_less_than_an_eighth_of_the_memory_of_all_logits():
    shape = jax.ShapeDtypeStruct
    arguments = (
        shape((1, 8192, 64), jnp.bfloat16),
        shape((64, 92553), jnp.float32),
        shape((1, 8192), jnp.int32),
    )

    def memory(losses):
        loss = lambda x, k, labels: losses((x,), (k,), labels)[0].mean()  # noqa: E731
        compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arguments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(word_losses) < memory(whole) / 8
