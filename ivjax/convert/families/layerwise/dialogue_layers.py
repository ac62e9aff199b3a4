"""A dialogue model's stages under the names, and in the layout, of the original's fixtures."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.dialogue import DialogueSize


def run(
    size: DialogueSize, params: Mapping[str, Any], inputs: Mapping[str, Any], dtype: Any
) -> dict[str, jax.Array]:
    """Visual tokens of the one video, embeddings of the prompt, and logits."""
    model, params = size.build(Compute(dtype)), dict(params)
    video = jnp.asarray(inputs["pixel_values"].transpose(0, 2, 3, 1))[None]
    ids = jnp.asarray(inputs["input_ids"], jnp.int32)
    visual = model.see(params, video)
    embedded = model.embed(params, ids, visual)
    return {
        "visual_tokens": visual.reshape(video.shape[1], -1, visual.shape[-1]),
        "inputs_embeds": embedded,
        "logits": model.language.logits(params["language"], model.states(params, embedded)),
    }
