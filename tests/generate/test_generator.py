"""The generator: compiled programs, tokens as they come, and prompts that it refuses."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.generate import generator as module
from ivjax.generate.generator import Generator
from ivjax.generate.prompts import padded_length
from ivjax.models.decoder.visual_dropout import VisualDropout
from tests.generate.whole_pass import GREEDY, ROWS, SIZE, VISUAL, model_of, texts

PROMPTS = texts(*ROWS)


@pytest.fixture(scope="module")
def model():
    return model_of(SIZE)


def test_each_length_of_prompts_is_compiled_once(model):
    generator = Generator(*model, GREEDY)
    programs = module.run_prefill._cache_size, module.run_decode._cache_size
    counts = []
    for lengths in ((5, 11, 20), (3, 4, 17), (9, 3, 24), (3, 8, 5), (8, 2, 2)):
        before = [count() for count in programs]
        generator.generate(texts(*lengths))
        counts.append([count() - old for count, old in zip(programs, before, strict=True)])
    # The first may be there already; the others fill up to 24, then 8, then 8 tokens.
    assert counts[1:] == [[0, 0], [0, 0], [1, 1], [0, 0]]


def test_tokens_come_while_the_next_step_is_under_way(model, monkeypatch):
    started, run = [], module.run_decode
    monkeypatch.setattr(module, "run_decode", lambda *values: started.append(0) or run(*values))
    seen = [(tokens.shape, len(started)) for tokens in Generator(*model, GREEDY).stream(PROMPTS)]
    assert seen == [((3,), step) for step in (1, 2, 3, 4, 5, 5)]
    # A reader that has enough leaves the rest undone.
    started.clear()
    next(Generator(*model, GREEDY).stream(PROMPTS))
    assert len(started) == 1


def test_embeddings_stand_in_place_of_ids(model):
    language, params = model
    words = params["word_embed"]

    def embed(ids):
        return jnp.where((ids == VISUAL)[..., None], words[7], language.embed(params, ids))

    generator = Generator(language, params, GREEDY, visual_token=VISUAL)
    written = [[7 if i == 2 else token for i, token in enumerate(row)] for row in PROMPTS]
    seen = [[VISUAL if i == 2 else token for i, token in enumerate(row)] for row in PROMPTS]
    assert generator.generate(seen, embed) == generator.generate(written)
    # An id that is no word is one all the same where it stands for a visual token.
    outside = Generator(language, params, GREEDY, visual_token=-200)
    assert outside.generate(
        [[-200 if token == VISUAL else token for token in row] for row in seen],
        lambda ids: embed(jnp.where(ids == -200, VISUAL, ids)),
    ) == generator.generate(written)


def test_texts_without_a_video_are_read_as_without_dropout(model):
    options = replace(GREEDY, dropout=VisualDropout((1,), (1.0, 0.5)))
    plain = Generator(*model, GREEDY).generate(PROMPTS)
    count = module.run_prefill._cache_size()
    assert Generator(*model, options, visual_token=VISUAL).generate(PROMPTS) == plain
    # By the same program.
    assert module.run_prefill._cache_size() == count


def test_prompts_are_filled_up_to_few_lengths():
    met = {padded_length(tokens, 64) for tokens in range(1, 10_000)}
    assert len(met) < 50 and all(length % 64 == 0 for length in met)
    for tokens in range(1, 10_000):
        length = padded_length(tokens, 64)
        assert tokens <= length <= max(tokens * 1.125, tokens + 63)


def test_a_limit_holds_prompts_and_new_tokens(model):
    exact = Generator(*model, GREEDY, limit=20 + GREEDY.new)
    assert exact.prompt_length(PROMPTS) == 20
    # As long as the prompts are filled up to without a limit, so that the program is there.
    wide = Generator(*model, GREEDY, limit=24 + GREEDY.new)
    assert wide.generate(PROMPTS) == Generator(*model, GREEDY).generate(PROMPTS)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"new": 0}, "new must be a whole number of 1 or more, got 0"),
        ({"new": 2.5}, "new must be a whole number of 1 or more, got 2.5"),
        ({"chunk": 0}, "chunk must be a whole number of 1 or more, got 0"),
        ({"stops": 2}, r"stops must be a tuple of ids, such as \(2,\), got 2"),
        ({"stops": [2]}, r"stops must be a tuple of ids, such as \(2,\), got \[2\]"),
        ({"cache": "fp8"}, "cache must be compute or int8, got 'fp8'"),
        ({"stops": (2, 61)}, "stop token 61 is no token of the model, whose ids are 0 to 60"),
        ({"dropout": VisualDropout((3,), (1.0, 0.5))}, r"dropout.layers=\(3,\) must ascend and lie between"),
        ({"dropout": VisualDropout((1,), (1.0,))}, r"dropout.ratios=\(1.0,\) must be 2 numbers"),
        (
            {"dropout": VisualDropout((1,), (0.5, 0.25))},
            r"dropout.ratios=\(0.5, 0.25\) must begin with 1 and",
        ),
        ({"dropout": VisualDropout((1, 2), (1.0, 0.5, 0.75))}, "must begin with 1 and fall, none below 0"),
        ({"dropout": VisualDropout((1,), (1.0, 0.5), "best")}, "dropout.kind=best must be one of uniform, "),
    ],
)
def test_impossible_options_are_an_error(model, options, words):
    with pytest.raises(UserError, match=words):
        Generator(*model, replace(GREEDY, **options))


@pytest.mark.parametrize(
    "rows, words",
    [
        ([], "there are no prompts"),
        ([[1], []], "prompt 1 is empty"),
        ([1, 2], "prompt 0 must be a list of token ids, got 1; prompts are one list for each text"),
        ([[1], ["a"]], r"prompt 1 must be a list of token ids, got \['a'\]"),
        ([[1.5]], r"prompt 0 must be a list of token ids, got \[1.5\]"),
        ([[1], [1] * 13], "prompt 1 has 13 tokens, which with 6 new ones exceed the limit of 18"),
        ([[1, 61]], "prompt 0 has token 61, which is no token of the model, whose ids are 0 to 60"),
        ([[1, -200]], "prompt 0 has token -200"),
        ([[1, VISUAL], [1, VISUAL, VISUAL]], "prompt 1 has 2 visual tokens and prompt 0 has 1"),
    ],
)
def test_prompts_that_cannot_be_gone_on_with_are_refused_at_once(model, rows, words):
    options = replace(GREEDY, dropout=VisualDropout((1,), (1.0, 0.5)))
    generator = Generator(*model, options, limit=18, visual_token=VISUAL)
    with pytest.raises(UserError, match=words):
        generator.stream(rows)


def test_prompts_may_be_an_array(model):
    rows = texts(5, 5)
    assert Generator(*model, GREEDY).generate(np.array(rows)) == Generator(*model, GREEDY).generate(rows)


def test_only_a_language_model_with_its_parameters_generates(model):
    language, params = model
    for wrong in ((object(), params), (language, {"language": params})):
        with pytest.raises(UserError, match='of a dialogue model give model.language and params."language"'):
            Generator(*wrong, GREEDY)


def test_numbers_of_rows_are_as_many_as_prompts(model):
    with pytest.raises(UserError, match="1 prompts have 2 numbers"):
        Generator(*model, GREEDY).stream([[1]], numbers=[0, 1])


@pytest.mark.slow
def test_a_cast_model_tells_the_same_as_one_cast_at_every_step(model):
    language, params = model
    half = replace(language, compute=replace(language.compute, dtype="bfloat16"))
    cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    first, second = (next(Generator(half, p, GREEDY).stream(PROMPTS)) for p in (params, cast))
    np.testing.assert_array_equal(first, second)
