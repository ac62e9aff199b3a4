"""The next token: penalties and cuts against plain numpy, and what the draws depend on."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.generate import generator as module
from ivjax.generate.decoding import ENDED, Decoded, chosen
from ivjax.generate.generator import Generator, row_keys
from ivjax.generate.sampling import Sampling, choose
from tests.generate.whole_pass import GREEDY, ROWS, SIZE, model_of, texts

LOGITS = np.random.default_rng(0).normal(size=(2, 12)).astype("f") * 2
DRAWS = 4096
draw = jax.jit(choose, static_argnums=0)


def allowed(sampling, logits, seen):
    """Probabilities of the next token, token by token as the definitions say."""
    logits = [
        (x / sampling.repetition_penalty if x > 0 else x * sampling.repetition_penalty) if told else x
        for x, told in zip(logits.astype("d"), seen, strict=True)
    ]
    weights = np.exp(np.array(logits) / sampling.temperature)
    order = np.argsort(-weights)
    kept = list(order[: sampling.top_k or len(order)])
    weights /= weights[kept].sum()
    inside, mass = [], 0.0
    for token in kept:
        if mass >= sampling.top_p:
            break
        inside.append(token)
        mass += weights[token]
    out = np.zeros(len(logits))
    out[inside] = weights[inside] / mass
    return out


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(1.0),
        Sampling(0.5),
        Sampling(1.5, top_k=4),
        Sampling(1.0, top_p=0.8),
        Sampling(1.0, top_p=0.01),
        Sampling(1.0, top_k=100, repetition_penalty=1.7),
        Sampling(1.3, top_k=6, top_p=0.7, repetition_penalty=0.8),
    ],
)
def test_draws_follow_the_definitions(sampling):
    seen = np.arange(12) % 3 == np.arange(2)[:, None]
    for logits, told in zip(LOGITS, seen, strict=True):
        rows = np.broadcast_to(logits, (DRAWS, 12)), row_keys(0, range(DRAWS))
        found = np.bincount(draw(sampling, *rows, np.broadcast_to(told, (DRAWS, 12))), minlength=12)
        wanted = allowed(sampling, logits, told)
        assert not np.any(found[wanted == 0])
        # Four standard deviations of a share of so many draws.
        np.testing.assert_allclose(
            found / DRAWS, wanted, atol=4 * np.sqrt(wanted.max() * (1 - wanted.max()) / DRAWS) + 0.02
        )


def test_temperature_0_takes_the_likeliest_after_the_penalty():
    keys = row_keys(0, range(2))
    np.testing.assert_array_equal(draw(Sampling(), LOGITS, keys, None), LOGITS.argmax(1))
    seen = np.arange(12) == LOGITS.argmax(1)[:, None]
    others = np.where(seen, -np.inf, LOGITS).argmax(1)
    np.testing.assert_array_equal(draw(Sampling(repetition_penalty=100.0), LOGITS, keys, seen), others)


def test_draws_differ_by_row_and_step_and_by_nothing_else():
    rows = row_keys(0, range(64))
    first, second = (
        np.asarray(draw(Sampling(1.0), jnp.zeros((64, 12)), keys, None))
        for keys in (rows, jax.vmap(jax.random.fold_in, (0, None))(rows, 1))
    )
    assert np.any(first != second) and len(np.unique(first)) > 6
    turned = draw(Sampling(1.0), jnp.zeros((64, 12)), row_keys(0, range(63, -1, -1)), None)
    np.testing.assert_array_equal(turned, first[::-1])


@pytest.mark.slow
def test_a_row_draws_by_its_seed_number_and_step_alone():
    model, params = model_of(SIZE)
    options = replace(GREEDY, sampling=Sampling(1.0, top_p=0.95, repetition_penalty=1.1))
    rows = texts(*ROWS)
    generator = Generator(model, params, options)
    together = generator.generate(rows, seed=3)
    # In another order, beside other rows.
    again = generator.generate([rows[2], rows[0], rows[0]], seed=3, numbers=[2, 0, 9])
    assert again[:2] == [together[2], together[0]] and again[2] != together[0]
    assert generator.generate(rows, seed=4) != together


def test_a_text_ends_with_its_stop_token_and_the_others_go_on(monkeypatch):
    model, params = model_of(SIZE)
    said = np.array([[9, 4, 7, 7], [8, 8, 5, 7], [8, 8, 8, 8]])
    options, steps = replace(GREEDY, new=4, stops=(4, 5)), []

    def told(state):
        """The state after the next of the tokens, as the compiled programs give it."""
        logits = jax.nn.one_hot(said[:, len(steps)], SIZE.vocabulary)
        steps.append(0)
        return chosen(state, logits, options)

    none = jnp.zeros(3, jnp.int32)
    start = Decoded((), none, jnp.zeros((), jnp.int32), none > 0, None, row_keys(0, range(3)))
    monkeypatch.setattr(module, "run_prefill", lambda *values: told(start))
    monkeypatch.setattr(module, "run_decode", lambda model, params, state, *values: told(state))
    generator = Generator(model, params, options)
    rows = np.stack(list(generator.stream(texts(*ROWS))), axis=1)
    np.testing.assert_array_equal(rows, [[9, 4, ENDED, ENDED], [8, 8, 5, ENDED], [8, 8, 8, 8]])
    # It stops as soon as all have ended.
    steps.clear()
    said[2, 1] = 4
    assert generator.generate(texts(*ROWS)) == [[9], [8, 8], [8]] and len(steps) == 4
    steps.clear()
    said[1, 0] = 5
    assert generator.generate(texts(*ROWS)) == [[9], [], [8]] and len(steps) == 3


@pytest.mark.slow
def test_a_text_ends_with_its_stop_token():
    model, params = model_of(SIZE)
    rows = texts(*ROWS)
    free = Generator(model, params, GREEDY).generate(rows)
    stops = (free[0][1], free[1][3])
    stopped = Generator(model, params, replace(GREEDY, stops=stops))
    steps = np.stack(list(stopped.stream(rows)), axis=1)
    ends = [next((i for i, token in enumerate(row) if token in stops), 5) for row in free]
    assert ends[0] <= 1 and ends[1] <= 3
    for row, text, end in zip(steps, free, ends, strict=True):
        assert row[: end + 1].tolist() == text[: end + 1] and set(row[end + 1 :]) <= {ENDED}
    assert steps.shape[1] == max(ends) + 1
    cut = [
        [token for token in text[: end + 1] if token not in stops]
        for text, end in zip(free, ends, strict=True)
    ]
    assert stopped.generate(rows) == cut


@pytest.mark.parametrize(
    "options, words",
    [
        ({"temperature": -1.0}, "temperature must be 0 or more, got -1.0"),
        ({"top_k": 0}, "top_k must be a whole number of 1 or more, got 0"),
        ({"top_k": 2.5}, "top_k must be a whole number of 1 or more, got 2.5"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0, got 0.0"),
    ],
)
def test_impossible_sampling_is_an_error(options, words):
    with pytest.raises(UserError, match=words):
        Sampling(**options)
