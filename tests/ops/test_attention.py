"""The kernels behind the attention switch agree with a softmax written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.experiment.mesh_shape import MeshShape
from ivjax.ops import attention
from ivjax.train.mesh import build_mesh


def written_out(q, k, v, causal=False, q_segments=None, kv_segments=None, window=None):
    k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
    seen = jnp.ones(logits.shape[-2:], bool)
    if causal:
        seen = jnp.tril(seen)
    if window is not None:
        seen = seen & ~jnp.tril(jnp.ones_like(seen), -window) & ~jnp.triu(jnp.ones_like(seen), window)
    if q_segments is not None:
        seen = seen & (q_segments[:, None, :, None] == kv_segments[:, None, None, :])
    return jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(jnp.where(seen, logits, -1e30)), v)


written_out_at_once = jax.jit(written_out, static_argnames="causal")


def inputs(queries, keys, heads=2, groups=2, width=24, batch=2):
    rng = np.random.default_rng(0)
    shapes = [(batch, queries, heads, width), (batch, keys, groups, width), (batch, keys, groups, width)]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def segments(length, batch=2):
    return np.tile((np.arange(length, dtype=np.int32) * 3) // length, (batch, 1))


def with_gradients(kernel, q, k, v):
    """Returns the output, and the gradients by all inputs of its weighted sum."""
    weight = np.random.default_rng(9).normal(size=q.shape).astype(np.float32)

    def loss(*qkv):
        out = kernel(*qkv)
        return (out * weight).sum(), out

    (_, out), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)
    return out, gradients


def assert_agree(found, wanted, rtol=1e-4, atol=3e-5):
    np.testing.assert_allclose(found[0], wanted[0], rtol=rtol, atol=atol)
    for mine, theirs in zip(found[1], wanted[1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=10 * atol)


@pytest.mark.parametrize("queries, keys", [(37, 37), (1, 50), (130, 20)])
def test_the_loop_over_heads_agrees_with_the_formula(queries, keys):
    qkv = inputs(queries, keys)
    assert_agree(with_gradients(attention.attend, *qkv), with_gradients(written_out, *qkv))


GROUPED = inputs(37, 37, heads=4, groups=2)
PLAIN = {"causal": False, "q_segments": None, "kv_segments": None}
IN_SEGMENTS = {"q_segments": segments(37), "kv_segments": segments(37)}
MASKS = {
    "plain": PLAIN,
    "causal": PLAIN | {"causal": True},
    "segments": PLAIN | IN_SEGMENTS,
    "both": IN_SEGMENTS | {"causal": True},
    "window": IN_SEGMENTS | {"causal": True, "window": 6},
    "both sides": IN_SEGMENTS | {"causal": False, "window": 6},
}
each_mask = pytest.mark.parametrize("mask", MASKS)


@functools.cache
def expected(mask):
    return with_gradients(functools.partial(written_out, **MASKS[mask]), *GROUPED)


@each_mask
def test_masks_and_grouped_heads_agree_with_the_formula(mask):
    kernel = functools.partial(attention.attend, **MASKS[mask])
    assert_agree(with_gradients(kernel, *GROUPED), expected(mask))


@each_mask
def test_splash_with_padding_agrees_with_the_formula(mask):
    kernel = functools.partial(attention.splash, interpret=True, **MASKS[mask])
    assert_agree(with_gradients(kernel, *GROUPED), expected(mask))


@each_mask
def test_padding_to_even_numbers_for_cudnn_changes_nothing(mask):
    kernel = functools.partial(attention.in_pairs, implementation="xla", **MASKS[mask])
    assert_agree(with_gradients(kernel, *GROUPED), expected(mask))


@pytest.mark.parametrize("heads, groups", [(2, 2), (4, 1), (3, 3)])
def test_splash_over_a_mesh_equals_one_device(heads, groups):
    q, k, v = inputs(129, 129, heads=heads, groups=groups, width=88, batch=4)
    wanted = written_out_at_once(q, k, v)
    with jax.set_mesh(build_mesh(MeshShape(data=2, fsdp=2, tensor=2))):
        kernel = jax.jit(lambda *a: attention.splash(*a, False, None, None, interpret=True))
        np.testing.assert_allclose(kernel(q, k, v), wanted, rtol=1e-4, atol=3e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [{"context": 4}, {"context": 2, "tensor": 2}], ids=str)
def test_causal_attention_over_devices_that_split_the_tokens_equals_one_device(shape):
    q, k, v = inputs(300, 300, heads=2, groups=2, width=16)
    ids = jnp.asarray(np.arange(300)[None] // 110 * np.ones((len(q), 1), int), jnp.int32)
    how = {"causal": True, "q_segments": ids, "kv_segments": ids}
    wanted = with_gradients(functools.partial(attention.attend, **how), q, k, v)
    with jax.set_mesh(build_mesh(MeshShape(**{"data": 1, **shape}), jax.devices()[:4])):
        for kernel in (attention.attend, functools.partial(attention.splash, interpret=True)):
            assert_agree(with_gradients(functools.partial(kernel, **how), q, k, v), wanted)


def test_bfloat16_stays_close_to_float32():
    exact = written_out_at_once(*inputs(40, 40))
    rounded = jax.jit(attention.attend)(*(x.astype(jnp.bfloat16) for x in inputs(40, 40)))
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded.astype(jnp.float32), exact, atol=0.03)


def test_no_matrix_of_all_queries_and_keys_is_made_beyond_8k_tokens():
    length = 8448
    struct = jax.ShapeDtypeStruct
    q, kv = struct((1, length, 2, 8), jnp.float32), struct((1, length, 1, 8), jnp.float32)
    ids = struct((1, length), jnp.int32)

    def attended(q, k, v, ids, **how):
        return attention.attend(q, k, v, q_segments=ids, kv_segments=ids, **how).sum()

    def plain(q, k, v, ids):
        return attention.attend(q, jnp.repeat(k, 2, 2), jnp.repeat(v, 2, 2)).sum()

    kinds = [functools.partial(attended, causal=True, window=window) for window in (None, 100)]
    kinds.append(functools.partial(attended, window=100))
    for kind in (*kinds, attended, plain):
        compiled = jax.jit(jax.grad(kind, argnums=(0, 1, 2))).lower(q, kv, kv, ids).compile()
        # A quarter of one head's logits.
        assert compiled.memory_analysis().temp_size_in_bytes < length * length


def test_segments_of_one_side_only_are_an_error():
    with pytest.raises(ValueError, match="for both queries and keys"):
        attention.attend(*inputs(8, 8), q_segments=segments(8))
