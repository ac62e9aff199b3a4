"""The generator: compiled programs, tokens as they come, and prompts that it refuses."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.generate import generator as module
from ivjax.generate.decoding import Decoding
from ivjax.generate.generator import Generator
from ivjax.generate.prompts import padded_length
from ivjax.generate.sampling import Sampling
from ivjax.models.decoder.visual_dropout import VisualDropout
from tests.generate.whole_pass import SIZE, VISUAL, model_of, texts

OPTIONS = Decoding(new=4, chunk=8)


@pytest.fixture(scope="module")
def model():
    return model_of(SIZE)


def test_each_length_of_prompts_is_compiled_once(model, caplog):
    # Options that no other test has, whose programs might be there already.
    generator = Generator(*model, replace(OPTIONS, sampling=Sampling(repetition_penalty=1.25)))
    programs = []
    for lengths in ((3, 8), (5, 7), (9, 16), (10, 12), (8, 2)):
        caplog.clear()
        with jax.log_compiles():
            generator.generate(texts(*lengths))
        programs.append(
            [
                sum("Compiling" in line and name in line for line in caplog.messages)
                for name in ("prefill", "decode")
            ]
        )
    # The others fill up to the same lengths, 8 and 16.
    assert programs == [[1, 1], [0, 0], [1, 1], [0, 0], [0, 0]]


def test_tokens_come_while_the_next_step_is_under_way(model, monkeypatch):
    started, run = [], module._decode
    monkeypatch.setattr(module, "_decode", lambda *values: started.append(0) or run(*values))
    seen = [(tokens.shape, len(started)) for tokens in Generator(*model, OPTIONS).stream(texts(3, 8))]
    assert seen == [((2,), 1), ((2,), 2), ((2,), 3), ((2,), 3)]
    # A reader that has enough leaves the rest undone.
    started.clear()
    next(Generator(*model, OPTIONS).stream(texts(3, 8)))
    assert len(started) == 1


def test_embeddings_stand_in_place_of_ids(model):
    language, params = model
    rows, words = texts(5, 8), params["word_embed"]

    def embed(ids):
        return jnp.where((ids == VISUAL)[..., None], words[7], language.embed(params, ids))

    generator = Generator(language, params, OPTIONS, visual_token=VISUAL)
    written = [[7 if i == 2 else token for i, token in enumerate(row)] for row in rows]
    seen = [[VISUAL if i == 2 else token for i, token in enumerate(row)] for row in rows]
    assert generator.generate(seen, embed) == generator.generate(written)
    # An id that is no word is one all the same where it stands for a visual token.
    outside = Generator(language, params, OPTIONS, visual_token=-200)
    assert outside.generate(
        [[-200 if token == VISUAL else token for token in row] for row in seen],
        lambda ids: embed(jnp.where(ids == -200, VISUAL, ids)),
    ) == generator.generate(written)


def test_texts_without_a_video_are_read_as_without_dropout(model):
    options = replace(OPTIONS, dropout=VisualDropout((1,), (1.0, 0.5)))
    rows = texts(3, 8)
    dropping = Generator(*model, options, visual_token=VISUAL)
    assert dropping.generate(rows) == Generator(*model, OPTIONS).generate(rows)


def test_prompts_are_filled_up_to_few_lengths():
    met = {padded_length(tokens, 64) for tokens in range(1, 10_000)}
    assert len(met) < 50 and all(length % 64 == 0 for length in met)
    for tokens in range(1, 10_000):
        length = padded_length(tokens, 64)
        assert tokens <= length <= max(tokens * 1.125, tokens + 63)


def test_a_limit_holds_prompts_and_new_tokens(model):
    generator = Generator(*model, OPTIONS, limit=14)
    rows = texts(9, 10)
    assert generator.prompt_length(rows) == 10
    assert generator.generate(rows) == Generator(*model, OPTIONS).generate(rows)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"new": 0}, "new must be 1 or more, got 0"),
        ({"chunk": 0}, "chunk must be 1 or more, got 0"),
        ({"stops": (2, 61)}, "stop token 61 is no token of the model, whose ids are 0 to 60"),
        ({"dropout": VisualDropout((2,), (1.0, 0.5))}, r"dropout.layers=\(2,\) must ascend and lie between"),
        ({"dropout": VisualDropout((1,), (1.0,))}, r"dropout.ratios=\(1.0,\) must be 2 numbers"),
    ],
)
def test_impossible_options_are_an_error(model, options, words):
    with pytest.raises(UserError, match=words):
        Generator(*model, replace(OPTIONS, **options))


@pytest.mark.parametrize(
    "rows, words",
    [
        ([], "there are no prompts"),
        ([[1], []], "prompt 1 is empty"),
        ([[1], [1] * 13], "prompt 1 has 13 tokens, which with 4 new ones exceed the limit of 16"),
        ([[1, 61]], "prompt 0 has token 61, which is no token of the model, whose ids are 0 to 60"),
        ([[1, -200]], "prompt 0 has token -200"),
        ([[1, VISUAL], [1, VISUAL, VISUAL]], "prompt 1 has 2 visual tokens and prompt 0 has 1"),
    ],
)
def test_prompts_that_cannot_be_gone_on_with_are_refused_at_once(model, rows, words):
    options = replace(OPTIONS, dropout=VisualDropout((1,), (1.0, 0.5)))
    generator = Generator(*model, options, limit=16, visual_token=VISUAL)
    with pytest.raises(UserError, match=words):
        generator.stream(rows)


def test_numbers_of_rows_are_as_many_as_prompts(model):
    with pytest.raises(UserError, match="1 prompts have 2 numbers"):
        Generator(*model, OPTIONS).stream([[1]], numbers=[0, 1])


def test_a_cast_model_tells_the_same_as_one_cast_at_every_step(model):
    language, params = model
    half = replace(language, compute=replace(language.compute, dtype="bfloat16"))
    cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    rows = texts(3, 8)
    first, second = (next(Generator(half, p, OPTIONS).stream(rows)) for p in (params, cast))
    np.testing.assert_array_equal(first, second)
