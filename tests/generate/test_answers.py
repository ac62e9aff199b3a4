"""Answers of dialogue models: generated behind a video, they are what the whole model says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.experiment.computing import Compute
from ivjax.generate.decoding import Decoding
from ivjax.generate.generator import Generator
from ivjax.models.dialogue.presets import DIALOGUES
from tests.models.params import any_params

NEW = 3


@pytest.mark.slow
def test_answers_behind_a_video_are_the_likeliest_words_of_the_whole_model():
    size = DIALOGUES["internvideo2_5_chat_8b_tiny"]
    model = size.build(Compute("float32"))
    params, rng = any_params(model), np.random.default_rng(0)
    video = rng.integers(0, 256, (2, 4, *size.vision.image, 3), np.uint8)
    places = [size.visual_token] * size.visual_tokens(4)
    prompts = [[1, *places, 7], [1, 5, 6, *places, 8, 9]]
    visual = jax.jit(model.see)(params, video)
    generator = Generator(
        model.language, params["language"], Decoding(new=NEW), visual_token=size.visual_token
    )
    answers = generator.generate(prompts, lambda ids: model.embed(params, ids, visual))
    states = jax.jit(model.states)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        # Causal: one pass over prompt and answer tells what is said after each token.
        ids = jnp.asarray([prompt + answer])
        x = states(params, model.embed(params, ids, visual[row : row + 1]))
        said = np.asarray(model.language.logits(params["language"], x))[0].argmax(-1)
        assert said[len(prompt) - 1 : -1].tolist() == answer and len(answer) == NEW
