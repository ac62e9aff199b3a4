"""Dropout in the stage of dialogue: of the LoRA and of the Q-Former, by the keys of rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.experiment.computing import Compute
from ivjax.models.decoder.sizes import Lora
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.ops.trees import paths_of
from ivjax.stages.video_dialogue import Bucket, VideoDialogue
from ivjax.stages.video_dialogue_loss import answer_loss, visual_tokens, weighed
from tests.goldens import close
from tests.models.params import any_params
from tests.train.dialogues import batch, conversation, row_of

FLOAT32 = Compute("float32")
SIZE = DIALOGUES["videochat2_mistral_7b_tiny"]
WORDS, SEEN = Bucket("words", 24), Bucket("seen", 24, clips=2)


def stage_of(lora=0.0, bridge=(0.0, 0.0), bucket=WORDS):
    """The stage with such a dropout of the LoRA, and dropout and drop path of the Q-Former."""
    language = dataclasses.replace(SIZE.language, depth=1, lora=Lora(rank=4, dropout=lora))
    queries = dataclasses.replace(SIZE.bridge, depth=2, dropout=bridge[0], drop_path=bridge[1])
    size = dataclasses.replace(SIZE, language=language, bridge=queries)
    return VideoDialogue(size, (bucket,), question=3 if bucket.clips else 0)


def rows_of(stage, indices):
    """A row for each index, with its own conversation of two answers."""
    bucket = stage.buckets[0]
    made = [
        row_of(stage, bucket, [conversation(stage, n, bucket.clips, 3, (2, 4 - bucket.clips))], n)
        for n in indices
    ]
    return weighed("token", jax.tree.map(jnp.asarray, batch(made)))


@pytest.fixture(scope="module")
def step():
    """(rows, key) -> loss and gradients with dropout of the LoRA."""
    stage = stage_of(lora=0.5)
    model = stage.model(FLOAT32)
    params = any_params(model)
    run = jax.jit(jax.value_and_grad(lambda p, rows, key: answer_loss(stage, model, p, rows, key)[0]))
    return lambda indices, seed=0: run(params, rows_of(stage, indices), jax.random.key(seed))


def test_a_row_loses_the_same_numbers_whatever_stands_beside_it(step):
    first, second, both = (step(indices)[0] for indices in ((0, 0), (1, 1), (1, 0)))
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-5)
    assert abs(step((0, 0), seed=1)[0] - first) > 1e-3


def test_factors_learn_with_dropout(step):
    found = paths_of(step((0, 1))[1]["language"]["lora"])
    assert all(np.any(leaf) for _, leaf in found)


def test_training_without_a_rate_and_evaluation_with_one_are_the_same_program():
    plain, dropping, key = stage_of(), stage_of(lora=0.5), jax.random.key(0)
    params, rows = any_params(plain.build(FLOAT32)), rows_of(plain, (0, 1))

    def program(function):
        return jax.jit(lambda p: function(p, rows, key)).lower(params).as_text()

    trained, evaluated = plain.build(FLOAT32).loss, dropping.build(FLOAT32).eval_loss
    assert program(trained) == program(evaluated) != program(dropping.build(FLOAT32).loss)


def test_the_mean_over_many_keys_is_what_nothing_dropped_gives():
    stage = stage_of(lora=0.1)
    model = stage.model(FLOAT32).language
    params, states = any_params(model), np.random.default_rng(0).normal(size=(1, 3, 64)).astype(np.float32)
    plain = np.asarray(model.logits(params, states))

    @jax.jit
    def mean(keys):
        def one(key):
            read, kernels = model.logit_products(params, jnp.asarray(states), key[None])
            return sum(x @ kernel for x, kernel in zip(read, kernels, strict=True))

        found = jax.lax.map(one, keys)
        return found.mean(0), found.std(0)

    found, spread = mean(jax.random.split(jax.random.key(0), 400))
    assert spread.min() > 0
    assert np.abs(found - plain).max() < 5 * np.asarray(spread).max() / 400**0.5


def test_each_clip_of_a_row_has_draws_of_its_own_and_a_row_the_same_alone():
    stage = stage_of(bridge=(0.3, 0.5), bucket=SEEN)
    model = stage.model(FLOAT32)
    params, rows = jax.tree.map(jnp.asarray, any_params(model)), dict(rows_of(stage, (0, 1)))
    # Both clips of the first row, and what is asked about them, are one.
    for name in ("video", "question", "question_mask"):
        rows[name] = rows[name].at[0, 1].set(rows[name][0, 0])
    run = jax.jit(lambda rows, key: visual_tokens(model, params, rows, key))
    found = run(rows, jax.random.key(0)).reshape(2, 2, -1)
    assert np.abs(found[0, 0] - found[0, 1]).max() > 1e-3
    swapped = run(jax.tree.map(lambda leaf: leaf[::-1], rows), jax.random.key(0)).reshape(2, 2, -1)
    close(swapped[::-1], np.asarray(found))
    plain = jax.jit(lambda rows: visual_tokens(model, params, rows))(rows).reshape(2, 2, -1)
    close(plain[0, 1], np.asarray(plain[0, 0]))
    assert np.abs(plain - found).max() > 1e-3
