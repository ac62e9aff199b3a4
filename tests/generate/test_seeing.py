"""Videos that are seen some clips at a time become the visual tokens of whole videos, by one program."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.generate.seeing import run_see, see_in_batches
from ivjax.models.bridge import Question
from ivjax.models.dialogue.presets import DIALOGUES
from tests.models.params import any_params

TINY = DIALOGUES["internvideo2_5_chat_8b_tiny"]


def drawn(name, videos, frames):
    model = DIALOGUES[f"{name}_tiny"].build(Compute("float32"))
    video = np.random.default_rng(0).integers(0, 255, (videos, frames, *model.tower.image, 3), np.uint8)
    return model, any_params(model), video


def test_clips_in_batches_are_those_of_the_whole_video():
    model, params, video = drawn("internvideo2_5_chat_8b", 1, 12)
    whole = jax.jit(model.see)(params, video)
    before = run_see._cache_size()
    # Three clips: the second batch of two is filled up.
    np.testing.assert_allclose(see_in_batches(model, params, video, 2), whole, rtol=1e-5, atol=1e-6)
    assert run_see._cache_size() == before + 1


@pytest.mark.slow
def test_each_clip_is_asked_its_own_videos_question():
    model, params, video = drawn("videochat2_mistral_7b", 2, 16)
    question = Question(jnp.array([[5, 6, 7], [8, 9, 0]]), jnp.array([[1, 1, 1], [1, 1, 0]]))
    whole = jax.jit(model.see)(params, video, question)
    found = see_in_batches(model, params, video, 3, question)
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)


def test_a_video_is_cut_between_what_the_bridge_joins():
    assert TINY.clip_frames(12) == 4 and TINY.clip_frames(1) == 1
    assert DIALOGUES["videochat2_vicuna_7b"].clip_frames(16) == 8
    bridge = functools.partial(replace, TINY.bridge)
    # Merged as one clip, it is not cut; without merging, a single frame would be taken for an image.
    assert replace(TINY, bridge=bridge(clip_frames=None)).clip_frames(12) == 12
    assert replace(TINY, bridge=bridge(frame_tokens=None, image_tokens=None)).clip_frames(12) == 2


def test_batches_of_no_clips_and_frames_that_make_no_clip_are_refused():
    model, params, video = drawn("internvideo2_5_chat_8b", 1, 6)
    with pytest.raises(UserError, match="clips must be 1 or more, got 0"):
        see_in_batches(model, params, video, 0)
    with pytest.raises(UserError, match="6 frames does not divide into clips of 4"):
        see_in_batches(model, params, video, 2)
