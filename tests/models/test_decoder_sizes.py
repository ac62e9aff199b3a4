"""Sizes of language models: what they cost, and how their parameters lie on a mesh."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.decoder.blocks import Text, Written
from ivjax.models.decoder.cache import empty_cache
from ivjax.models.decoder.sizes import LanguageSize, Lora, Rotary
from ivjax.ops.trees import paths_of
from ivjax.plan.products import block_flops
from ivjax.train.mesh import build_mesh
from ivjax.train.sharding import shardings_of
from tests.models.params import any_params

TINY = LanguageSize.PRESETS["tiny"]
LORA = replace(TINY, qkv_bias=True, lora=Lora(rank=4, alpha=8.0))


def logits(model, params, ids):
    """Logits of texts (B, L), packed two to a row."""
    rows, length = ids.shape
    segments = jnp.broadcast_to(jnp.arange(length) // (length // 2), (rows, length)).astype(jnp.int32)
    positions = jnp.arange(length)[None] % (length // 2)
    states = model.layers(params, model.embed(params, ids), Text(model.turns(positions, length), segments))
    return model.logits(params, model.normed(params, states))


@pytest.mark.slow
@pytest.mark.parametrize("size", [LORA, replace(TINY, tied=True)], ids=["lora", "tied"])
def test_four_devices_under_tensor_and_fsdp_equal_one(size):
    model, ids = size.build(Compute("float32")), np.random.default_rng(0).integers(0, 512, (4, 16))
    params = any_params(model)

    def loss(params, ids):
        found = logits(model, params, ids)
        return jnp.mean(jnp.sin(found)), found

    step = jax.value_and_grad(loss, has_aux=True)
    (value, whole), gradients = jax.jit(step)(params, ids)
    mesh = build_mesh(MeshShape(data=1, fsdp=2, tensor=2), jax.devices()[:4])
    shardings = shardings_of(params, mesh, size.rules)
    shapes = {path: leaf.shape for path, leaf in paths_of(params)}
    undivided = {path for path, s in paths_of(shardings) if s.shard_shape(shapes[path]) == shapes[path]}
    # What is whole on each device is small: norms and biases.
    assert {path.rpartition("/")[2] for path in undivided} <= {"scale", "bias"}
    with jax.set_mesh(mesh):
        rows = jax.NamedSharding(mesh, jax.P(("data", "fsdp")))
        spread = jax.device_put(params, shardings), jax.device_put(ids, rows)
        # With some blocks computed again in the backward pass, which changes nothing.
        model = size.build(Compute("float32", remat="full", remat_blocks=2))
        (found, parts), others = jax.jit(step, out_shardings=((None, None), shardings))(*spread)
    np.testing.assert_allclose(found, value, rtol=1e-5)
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)
    for (path, mine), other in zip(paths_of(gradients), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(other, mine, rtol=1e-3, atol=1e-5 * np.abs(mine).max(), err_msg=path)


@pytest.mark.parametrize("preset", LanguageSize.PRESETS)
def test_released_sizes_are_possible_and_spread_evenly(preset):
    size = LanguageSize.PRESETS[preset]
    size.check("language")
    mesh = build_mesh(MeshShape(data=1, fsdp=4, tensor=2))
    params = jax.eval_shape(size.build(Compute()).init, jax.random.key(0))
    shardings = dict(paths_of(shardings_of(params, mesh, size.rules)))
    whole = sum(leaf.size for _, leaf in paths_of(params))
    held = sum(np.prod(shardings[path].shard_shape(leaf.shape)) for path, leaf in paths_of(params))
    # InternVL's odd number of words is not split over tensor.
    ways = 4 if size.vocabulary % 2 else 8
    words = size.vocabulary * size.width * (1 if size.tied else 2)
    assert held < 1.02 * ((whole - words) / 8 + words / ways)


@pytest.mark.parametrize("size", [TINY, LORA, replace(TINY, kv_heads=4)])
def test_flops_are_those_of_the_matrix_products(size):
    model, tokens = size.build(Compute("float32")), 16
    params = jax.eval_shape(model.init, jax.random.key(0))
    ids = jax.ShapeDtypeStruct((1, tokens), jnp.int32)
    counted = block_flops(jax.make_jaxpr(lambda *a: logits(model, *a))(params, ids).jaxpr)
    told = size.flops(tokens)
    # This attention computes the half that causality hides, too.
    assert counted == sum(told.values()) + told["attention"]


@pytest.mark.parametrize(
    "preset, tokens, flops",
    [
        ("qwen2_7b", 8_192, 120e12),
        ("qwen2_7b", 160_000, 7_226e12),
        ("internlm2_5_7b", 8_192, 132e12),
        ("internlm2_5_7b", 160_000, 8_944e12),
    ],
)
def test_flops_of_a_prefill_are_those_that_were_counted(preset, tokens, flops):
    told = LanguageSize.PRESETS[preset].flops(tokens)
    np.testing.assert_allclose(told["blocks"] + told["attention"], flops, rtol=0.005)


def test_flops_of_attention_count_the_cache_and_stop_at_the_window():
    one = TINY.depth * 4.0 * TINY.heads * TINY.head  # FLOPs of a query and a key
    assert TINY.flops(1, keys=99)["attention"] == one * 99.5
    # In two steps as in one.
    first, second = TINY.flops(10)["attention"], TINY.flops(30, keys=10)["attention"]
    assert first + second == TINY.flops(40)["attention"]
    narrow = replace(TINY, window=16)
    assert narrow.flops(16)["attention"] == TINY.flops(16)["attention"]
    assert narrow.flops(8, keys=90)["attention"] == one * 8 * 16
    assert narrow.flops(40)["attention"] == one * (16 * 8 + 24 * 16)


@pytest.mark.slow
def test_a_run_of_some_layers_behind_a_cache_copies_no_weights():
    size = replace(TINY, width=256, mlp_width=512, depth=6)
    model = size.build(Compute("float32"))
    params = jax.eval_shape(model.init, jax.random.key(0))

    def run(params, x, cache, first, last):
        text = Text(model.turns(jnp.arange(4)[None], 8), jnp.zeros((1, 4), jnp.int32))
        written = Written(jnp.int32(0), jnp.zeros((1, 8), jnp.int32))
        return model.cached_layers(params, x, text, cache, written, first, last)

    def temporaries(first, last):
        cache = jax.eval_shape(
            lambda: empty_cache(last - first, 1, 8, size.kv_heads, size.head, jnp.dtype("float32"))
        )
        x = jax.ShapeDtypeStruct((1, 4, size.width), jnp.float32)
        lowered = jax.jit(run, static_argnums=(3, 4)).lower(params, x, cache, first, last)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporaries(1, 5) < 1.1 * temporaries(0, 6)


@pytest.mark.slow
def test_segments_of_layers_copy_no_weights_and_have_the_gradients_of_all_layers():
    size = replace(TINY, width=256, mlp_width=512, depth=4)
    model = size.build(Compute("float32", remat="full"))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    weights = sum(4 * leaf.size for leaf in jax.tree.leaves(shapes["blocks"]))
    x = np.random.default_rng(0).normal(size=(1, 4, size.width)).astype(np.float32)
    text = Text(model.turns(jnp.arange(4)[None], 4))

    def loss(blocks, cuts):
        states = jnp.asarray(x)
        for first, last in zip(cuts, cuts[1:], strict=False):
            states = model.layers({"blocks": blocks}, states, text, first, last)
        return jnp.mean(jnp.sin(states))

    forward = jax.jit(loss, static_argnums=1).lower(shapes["blocks"], (0, 2, 4)).compile()
    assert forward.memory_analysis().temp_size_in_bytes < 0.3 * weights
    step = jax.jit(jax.grad(loss), static_argnums=1)
    # Nothing but the gradient of each segment, before both are one.
    memory = step.lower(shapes["blocks"], (0, 2, 4)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 1.3 * weights
    blocks = any_params(model)["blocks"]
    whole, segments = step(blocks, (0, 4)), step(blocks, (0, 2, 4))
    for (path, wanted), found in zip(paths_of(whole), jax.tree.leaves(segments), strict=True):
        largest = np.abs(wanted).max()
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * largest, err_msg=path)


@pytest.mark.parametrize(
    "size, words",
    [
        (replace(TINY, kv_heads=3), "stage.language.heads=4 cannot share 3 kv_heads evenly"),
        (replace(TINY, width=62), "stage.language.width=62 does not divide into 4 heads of an even width"),
        (replace(TINY, window=0), "stage.language.window=0 hides every token from itself"),
        (replace(TINY, lora=Lora(rank=0)), "stage.language.lora.rank=0"),
        (replace(TINY, lora=Lora(dropout=1.0)), "stage.language.lora.dropout=1.0 is no share"),
        (replace(TINY, tied=True, lora=Lora()), "stage.language.lora.layers names the head"),
        (
            replace(TINY, rotary=Rotary(scaling="long", short_factors=(1.0,), long_factors=(1.0,))),
            "stage.language.rotary has 1 short_factors and 1 long_factors for 8 pairs of channels",
        ),
    ],
)
def test_an_impossible_size_is_an_error(size, words):
    with pytest.raises(UserError, match=words):
        size.check("language")
