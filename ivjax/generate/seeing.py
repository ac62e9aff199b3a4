"""Visual tokens of long videos: their clips are encoded some at a time, by one compiled program."""

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.errors import UserError
from ivjax.models.bridge import Question
from ivjax.models.dialogue.model import DialogueModel
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain


def see_clips(
    model: DialogueModel, params: Params, clips: jax.Array, question: Question | None = None
) -> jax.Array:
    """Returns the visual tokens (N, n, C) of N clips (N, F, H, W, 3), each a video of its own."""
    # Whole on every device: a host reads them, and of several processes each holds some devices alone.
    return constrain(model.see(params, clips, question), None, None, None)


run_see = jax.jit(see_clips, static_argnums=0)


def see_in_batches(
    model: DialogueModel, params: Params, video: np.ndarray, clips: int, question: Question | None = None
) -> jax.Array:
    """Returns the visual tokens (V, n, C) of videos (V, F, H, W, 3), as `DialogueModel.see` does.

    So many clips are on the device at a time: what the tower needs does not grow with the video.
    """
    if clips < 1:
        raise UserError(f"clips must be 1 or more, got {clips}")
    model.size.check_video(video.shape)  # raises before anything is encoded
    videos, frames = video.shape[:2]
    rows = video.reshape(-1, model.size.clip_frames(frames), *video.shape[2:])
    if question is not None:
        # Each clip is asked what its video is.
        question = Question(*(jnp.repeat(part, len(rows) // videos, axis=0) for part in question))
    clips, found = min(clips, len(rows)), []
    for first in range(0, len(rows), clips):
        # The last batch is filled up with its last clip, so that one program does for all.
        places = np.minimum(np.arange(first, first + clips), len(rows) - 1)
        asked = None if question is None else Question(question.ids[places], question.mask[places])
        found.append(run_see(model, params, rows[places], asked)[: len(rows) - first])
    return jnp.concatenate(found).reshape(videos, -1, found[0].shape[-1])
