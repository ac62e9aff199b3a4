"""The kernels behind the attention switch agree with a softmax written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.experiment.mesh_shape import MeshShape
from ivjax.ops import attention
from ivjax.train.mesh import build_mesh


def written_out(q, k, v, causal=False, q_segments=None, kv_segments=None):
    k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
    seen = jnp.ones(logits.shape[-2:], bool)
    if causal:
        seen = jnp.tril(seen)
    if q_segments is not None:
        seen = seen & (q_segments[:, None, :, None] == kv_segments[:, None, None, :])
    return jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(jnp.where(seen, logits, -1e30)), v)


def inputs(queries, keys, heads=2, groups=2, width=24, batch=2, dtype=jnp.float32):
    shapes = [(batch, queries, heads, width), (batch, keys, groups, width), (batch, keys, groups, width)]
    return [
        jax.random.normal(k, s).astype(dtype)
        for k, s in zip(jax.random.split(jax.random.key(0), 3), shapes, strict=True)
    ]


def segments(length, batch=2):
    return jnp.broadcast_to((jnp.arange(length) * 3) // length, (batch, length))


def assert_agrees(kernel, reference, q, k, v, rtol=1e-4, atol=3e-5):
    weight = jax.random.normal(jax.random.key(9), q.shape)
    results = [
        jax.jit(jax.value_and_grad(lambda *a, f=f: (f(*a) * weight).sum(), argnums=(0, 1, 2)))(q, k, v)
        for f in (kernel, reference)
    ]
    np.testing.assert_allclose(kernel(q, k, v), reference(q, k, v), rtol=rtol, atol=atol)
    for mine, theirs in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=10 * atol)


@pytest.mark.parametrize("queries, keys", [(37, 37), (1, 50), (130, 20)])
def test_the_loop_over_heads(queries, keys):
    assert_agrees(attention.attend, written_out, *inputs(queries, keys))


CASES = {
    "causal": dict(causal=True),
    "segments": dict(q_segments=segments(37), kv_segments=segments(37)),
    "both": dict(causal=True, q_segments=segments(37), kv_segments=segments(37)),
}


@pytest.mark.parametrize("case", CASES)
def test_masks_and_grouped_heads(case):
    options = CASES[case]
    kernel, reference = (functools.partial(f, **options) for f in (attention.attend, written_out))
    assert_agrees(kernel, reference, *inputs(37, 37, heads=4, groups=2))


@pytest.mark.parametrize("case", [*CASES, "plain"])
def test_splash_with_padding(case):
    options = {"causal": False, "q_segments": None, "kv_segments": None} | CASES.get(case, {})
    q, k, v = inputs(37, 37, heads=4, groups=2, width=24)
    kernel = functools.partial(attention.splash, interpret=True, **options)
    assert_agrees(kernel, functools.partial(written_out, **options), q, k, v)


@pytest.mark.parametrize("case", [*CASES, "plain"])
def test_padding_to_even_numbers_for_cudnn(case):
    options = {"causal": False, "q_segments": None, "kv_segments": None} | CASES.get(case, {})
    kernel = functools.partial(attention.in_pairs, implementation="xla", **options)
    assert_agrees(kernel, functools.partial(written_out, **options), *inputs(37, 37, heads=4, groups=2))


@pytest.mark.parametrize("heads, groups", [(2, 2), (4, 1), (3, 3)])
def test_splash_over_a_mesh_equals_one_device(heads, groups):
    q, k, v = inputs(129, 129, heads=heads, groups=groups, width=88, batch=4)
    expected = written_out(q, k, v)
    with jax.set_mesh(build_mesh(MeshShape(data=2, fsdp=2, tensor=2))):
        kernel = jax.jit(lambda *a: attention.splash(*a, False, None, None, interpret=True))
        np.testing.assert_allclose(kernel(q, k, v), expected, rtol=1e-4, atol=3e-5)


def test_bfloat16_stays_close_to_float32():
    exact = written_out(*inputs(40, 40))
    rounded = attention.attend(*inputs(40, 40, dtype=jnp.bfloat16))
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded.astype(jnp.float32), exact, atol=0.03)


def test_segments_of_one_side_only_are_an_error():
    with pytest.raises(ValueError, match="for both queries and keys"):
        attention.attend(*inputs(8, 8), q_segments=segments(8))
