"""Attention in blocks agrees with the matrix of all queries and keys, in values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.experiment.mesh_shape import MeshShape
from ivjax.ops import attention, blockwise
from ivjax.ops.blockwise import Places, attend_in_blocks, visible
from ivjax.train.mesh import build_mesh


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK", 16)


def dense(q, k, v, q_segments, kv_segments, causal, window, start):
    k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    ahead = start + np.arange(q.shape[1])[:, None] - np.arange(k.shape[1])
    seen = q_segments[:, None, :, None] == kv_segments[:, None, None, :]
    if causal:
        seen &= ahead >= 0
    if window is not None:
        seen &= abs(ahead) < window
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k) * q.shape[-1] ** -0.5
    weights = jnp.where(seen, jax.nn.softmax(jnp.where(seen, logits, -1e30), axis=-1), 0)
    return jnp.einsum("bhnm,bmhd->bnhd", weights, v)


def drawn(queries, keys, heads=4, groups=2, width=8, batch=2):
    rng = np.random.default_rng(0)
    shapes = [(batch, queries, heads, width), *[(batch, keys, groups, width)] * 2]
    segments = [np.sort(rng.integers(0, 2, (batch, n)), axis=1) for n in (queries, keys)]
    return [rng.normal(size=shape).astype("f") for shape in shapes], segments


@pytest.mark.parametrize(
    "queries, keys, causal, window, start",
    [
        pytest.param(40, 40, True, None, 0, marks=pytest.mark.slow),
        (40, 40, False, None, 0),
        # Queries behind keys of a cache: with the cache full, in a window, and far from its end.
        pytest.param(37, 91, True, None, 54, marks=pytest.mark.slow),
        (37, 91, True, 23, 54),
        (5, 50, True, None, 20),
        pytest.param(70, 70, True, 9, 0, marks=pytest.mark.slow),
        # A window to both sides.
        (37, 70, False, 9, 20),
    ],
)
def test_values_and_gradients_are_those_of_the_whole_matrix(queries, keys, causal, window, start):
    qkv, segments = drawn(queries, keys)
    weight = np.random.default_rng(1).normal(size=qkv[0].shape).astype("f")

    def run(kernel):
        def loss(q, k, v, start):
            out = kernel(q, k, v, *segments, causal, window, start)
            return jnp.sum(weight * out), out

        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
        (_, out), gradients = step(*qkv, jnp.int32(start))
        return out, *gradients

    for mine, wanted in zip(run(attend_in_blocks), run(dense), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=2e-5)


def test_a_query_that_sees_nothing_gets_zeros():
    (q, k, v), (mine, _) = drawn(20, 40)
    out = attend_in_blocks(q, k, v, mine, np.full((2, 40), 7), True, None, jnp.int32(0))
    np.testing.assert_array_equal(out, np.zeros_like(q))


def test_bfloat16_stays_close_to_float32():
    qkv, segments = drawn(48, 48)
    half = [x.astype(jnp.bfloat16) for x in qkv]
    out = jax.jit(attend_in_blocks, static_argnums=(5, 6))(*half, *segments, True, None, jnp.int32(0))
    assert out.dtype == jnp.bfloat16
    wanted = jax.jit(dense, static_argnums=(5, 6))(*qkv, *segments, True, None, 0)
    np.testing.assert_allclose(out.astype("f"), wanted, atol=0.03)


def test_attend_takes_blocks_for_a_chunk_of_a_long_prompt(monkeypatch):
    qkv, segments = drawn(24, 64)
    how = {"causal": True, "q_segments": segments[0], "kv_segments": segments[1], "start": jnp.int32(40)}
    whole = jax.jit(functools.partial(attention.attend, **how))(*qkv)
    monkeypatch.setattr(attention, "_MATRIX", 24 * 64 - 1)
    blocks = jax.jit(functools.partial(attention.attend, **how))(*qkv)
    seen = visible(Places(True, None, 40), np.arange(24), np.arange(64), *segments).any(-1)
    np.testing.assert_allclose(blocks[seen], whole[seen], rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_over_a_mesh_blocks_stay_where_their_rows_and_heads_are():
    qkv, segments = drawn(40, 40)
    weight = np.random.default_rng(1).normal(size=qkv[0].shape).astype("f")
    mesh = build_mesh(MeshShape(data=1, fsdp=2, tensor=2), jax.devices()[:4])

    def loss(q, k, v, q_segments, kv_segments):
        out = attend_in_blocks(q, k, v, q_segments, kv_segments, True, 20, jnp.int32(0))
        return jnp.sum(weight * out)

    step = jax.value_and_grad(loss, argnums=(0, 1, 2))
    value, gradients = jax.jit(step)(*qkv, *segments)
    with jax.set_mesh(mesh):
        heads, rows = (
            jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("fsdp", None, "tensor"), ("fsdp",))
        )
        spread = [jax.device_put(x, heads) for x in qkv] + [jax.device_put(x, rows) for x in segments]
        compiled = jax.jit(step).lower(*spread).compile()
        found, others = compiled(*spread)
    assert not any(word in compiled.as_text() for word in ("all-gather", "all-to-all", "collective-permute"))
    np.testing.assert_allclose(found, value, rtol=1e-4)
    for mine, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(other, mine, rtol=1e-4, atol=2e-5)
