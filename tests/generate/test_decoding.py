"""Decoding with a cache against whole passes over the texts, for each kind of language model."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.experiment.computing import Compute
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.generate.decoding import Decoding, decode, next_logits
from ivjax.generate.generator import Generator, row_keys, run_prefill
from ivjax.generate.prefill import prefill, prompt_logits
from ivjax.generate.prompts import Prompts, on_the_right
from ivjax.models.decoder.sizes import LanguageSize
from ivjax.models.decoder.visual_dropout import VisualDropout
from ivjax.train.mesh import build_mesh
from ivjax.train.sharding import shardings_of
from tests.generate.whole_pass import (
    GREEDY,
    ROWS,
    SIZES,
    VISUAL,
    logits_after,
    logits_after_dropping,
    model_of,
    texts,
)
from tests.goldens import Golden, close
from tests.models.test_decoder_dropout import Case

CASES = Golden("s3_visual_dropout").config["cases"]
PROMPTS = texts(*ROWS)
DROPPING = [row[:2] + [VISUAL] * 8 + row[2:] for row in texts(3, 9, 12)]
MIXED = VisualDropout((1, 2), (1.0, 0.5, 0.25), "uniform0_attention")
read = jax.jit(prefill, static_argnums=(0, 4))
scored = jax.jit(prompt_logits, static_argnums=(0, 4))
scored_next = jax.jit(next_logits, static_argnums=(0, 3, 4))
step = jax.jit(decode, static_argnums=(0, 3, 4))
KEYS = row_keys(0, range(3))


def padded(model, params, rows, length):
    ids, starts = on_the_right(rows, length)
    return Prompts(model.embed(params, ids), jnp.asarray(starts), jnp.asarray(ids == VISUAL))


@pytest.mark.parametrize(
    "name", [n if n == "internlm2" else pytest.param(n, marks=pytest.mark.slow) for n in SIZES]
)
def test_ragged_prompts_go_on_as_whole_passes_say(name):
    model, params = model_of(SIZES[name])
    answers = Generator(model, params, GREEDY).generate(PROMPTS)
    assert [len(answer) for answer in answers] == [6, 6, 6] and len(np.unique(answers)) > 3
    np.testing.assert_array_equal(logits_after(model, params, PROMPTS, answers).argmax(-1), answers)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_visual_dropout_goes_on_as_whole_passes_say_for_every_family(name):
    model, params = model_of(SIZES[name])
    # Of one length: a whole pass scales positions by the longest row.
    rows = [row[:2] + [VISUAL] * 8 + row[2:] for row in texts(11, 11, 11)]
    answers = Generator(model, params, replace(GREEDY, dropout=MIXED), visual_token=VISUAL).generate(rows)
    found = logits_after_dropping(model, params, rows, answers, MIXED)
    np.testing.assert_array_equal(found.argmax(-1), answers)


@pytest.mark.slow
@pytest.mark.parametrize(
    "dropout",
    [MIXED, VisualDropout((1,), (1.0, 0.4), "uniform"), VisualDropout((2,), (1.0, 0.5), "attention")],
    ids=["mixed", "uniform", "attention"],
)
def test_ragged_prompts_with_visual_dropout_go_on_as_whole_passes_say(dropout):
    model, params = model_of(SIZES["qwen2"])
    options = replace(GREEDY, dropout=dropout)
    answers = Generator(model, params, options, visual_token=VISUAL).generate(DROPPING)
    found = logits_after_dropping(model, params, DROPPING, answers, dropout)
    np.testing.assert_array_equal(found.argmax(-1), answers)


def test_scaled_positions_of_a_row_depend_on_its_own_length_alone():
    model, params = model_of(SIZES["phi3_long"])
    generator = Generator(model, params, GREEDY)
    # The short prompt stays within the trained length, the longest does not.
    turned = generator.generate([PROMPTS[2], PROMPTS[0], PROMPTS[1]])
    assert turned == [generator.generate(PROMPTS)[row] for row in (2, 0, 1)]
    short, _ = generator.generate([PROMPTS[0], PROMPTS[0], PROMPTS[2]])[:2]
    assert short == turned[1]


@pytest.mark.golden
@pytest.mark.parametrize(
    "name",
    [
        n if case["type"] == "uniform0_attention" else pytest.param(n, marks=pytest.mark.slow)
        for n, case in CASES.items()
        if not case["train"]
    ],
)
def test_a_step_after_s3_visual_dropout_is_the_originals(name):
    case = Case(name)
    golden, (rows, length) = case.golden, case.x.shape[:2]
    shift = 6  # as if the prompt were shorter than others beside it
    visual = jnp.pad(case.tokens.visual, ((0, 0), (shift, 0)))
    prompts = Prompts(jnp.pad(case.x, ((0, 0), (shift, 0), (0, 0))), jnp.full(rows, shift, jnp.int32), visual)
    options = Decoding(3, chunk=8, dropout=case.dropout, visual=int(case.facts["nvis"][0]))
    state, token = read(case.model, case.params, prompts, row_keys(0, range(rows)), options)
    outputs = golden.group(f"outputs/{name}/decode")
    np.testing.assert_array_equal(token, outputs["next_token"].reshape(-1))
    close(
        scored_next(case.model, case.params, state, length + shift, options)[0],
        outputs["logits"].reshape(rows, -1),
    )
    # The original's caches, layer by layer.
    runs = zip(options.runs(case.size.depth), options.lengths(length), strict=True)
    lengths = [count for (first, last), count in runs for _ in range(first, last)]
    np.testing.assert_array_equal(lengths, outputs["kv_lengths"].reshape(-1))
    for run, count in zip(state.caches, options.lengths(length), strict=True):
        np.testing.assert_array_equal(run.starts, shift)
        assert run.cache.slots >= shift + count + options.new


@pytest.fixture(scope="module")
def whole():
    """Prompts, and what is said after them if they are read as a whole."""
    model, params = model_of(SIZES["mistral"])
    prompts = padded(model, params, PROMPTS, 22)
    return model, params, prompts, scored(model, params, prompts, KEYS, replace(GREEDY, chunk=22))


@pytest.mark.parametrize("chunk", [5, pytest.param(11, marks=pytest.mark.slow)])
def test_chunks_of_a_prompt_give_what_the_whole_gives(whole, chunk):
    model, params, prompts, (wanted, other) = whole
    logits, state = scored(model, params, prompts, KEYS, replace(GREEDY, chunk=chunk))
    close(logits, wanted)
    for row, start in enumerate(np.asarray(prompts.starts)):
        mine, theirs = (s.caches[0].cache.keys[:, row, :, start:22] for s in (state, other))
        close(mine, theirs)


def test_an_int8_cache_is_close(whole):
    model, params, prompts, (exact, full) = whole
    options = replace(GREEDY, chunk=22, cache="int8")
    logits, state = scored(model, params, prompts, KEYS, options)
    mine, cache = state.caches[0].cache, full.caches[0].cache
    assert mine.keys.dtype == mine.values.dtype == jnp.int8
    # Of the first layer, whose inputs are the same: half a step of the largest number of a token and head.
    for stored, scale, wanted in (
        (mine.keys, mine.key_scales, cache.keys),
        (mine.values, mine.value_scales, cache.values),
    ):
        bound = np.abs(wanted[0]).max(-1, keepdims=True) / 254
        assert np.all(np.abs(stored[0] * scale[0][..., None] - wanted[0]) <= bound * 1.001 + 1e-9)
    # Through all layers: a twentieth of the spread of the logits.
    moved = np.sqrt(np.mean((logits - exact) ** 2))
    assert moved < 0.05 * np.std(exact)


@pytest.mark.slow
def test_four_devices_under_tensor_and_fsdp_go_on_as_one():
    model, params = model_of(SIZES["internlm2"])
    rows = [*DROPPING, DROPPING[0][::-1]]
    options = replace(GREEDY, dropout=MIXED)
    alone = Generator(model, params, options, visual_token=VISUAL).generate(rows)
    mesh = build_mesh(MeshShape(data=1, fsdp=2, tensor=2), jax.devices()[:4])
    with jax.set_mesh(mesh):
        spread = jax.device_put(params, shardings_of(params, mesh, model.size.rules))
        generator = Generator(model, spread, options, visual_token=VISUAL)
        assert generator.generate(rows) == alone
        # One row is on both devices of fsdp.
        assert generator.generate(rows[:1]) == alone[:1]
        prompts = padded(model, spread, rows, 24)
        state, _ = read(model, spread, prompts, row_keys(0, range(4)), replace(options, visual=8))
        state, _ = step(model, spread, state, 24, replace(options, visual=8))
    for run in state.caches:
        layers, batch, heads, slots, width = run.cache.keys.shape
        held = run.cache.keys.sharding.shard_shape(run.cache.keys.shape)
        assert held == (layers, batch // 2, heads // 2, slots, width)


def temporaries(length, **changes):
    """Bytes that the compiled prefill of a prompt of so many tokens stores beside prompt and cache."""
    model = LanguageSize.PRESETS["tiny"].build(Compute("float32"))
    params = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    options = Decoding(new=8, chunk=256, **changes)
    x = jax.ShapeDtypeStruct((1, length, model.size.width), jnp.float32)
    prompts = Prompts(x, jax.ShapeDtypeStruct((1,), jnp.int32))
    keys = jax.eval_shape(lambda: row_keys(0, range(1)))
    compiled = run_prefill.lower(model, params, prompts, keys, options).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("cache", ["compute", pytest.param("int8", marks=pytest.mark.slow)])
def test_temporaries_of_prefill_are_those_of_a_chunk(cache):
    # A copy of one layer's keys, or a matrix of all tokens, would grow with the prompt.
    assert temporaries(16384, cache=cache) < 1.05 * temporaries(8192, cache=cache)
