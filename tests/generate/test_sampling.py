"""The next token: penalties and cuts against plain numpy, and what the draws depend on."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.generate.decoding import ENDED
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
    # No two steps draw alike.
    flat = Sampling(1.0)
    keys = [jax.vmap(jax.random.fold_in, (0, None))(row_keys(0, range(64)), count) for count in range(2)]
    first, second = (draw(flat, jnp.zeros((64, 12)), key, None) for key in keys)
    assert np.any(np.asarray(first) != np.asarray(second))


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
        ({"top_k": 0}, "top_k must be 1 or more, got 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0, got 0.0"),
    ],
)
def test_impossible_sampling_is_an_error(options, words):
    with pytest.raises(UserError, match=words):
        Sampling(**options)
