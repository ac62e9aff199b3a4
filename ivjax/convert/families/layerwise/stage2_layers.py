"""Stage 2's layers under the names, and in the layout, of the originals' fixtures."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from ivjax.convert.families.layerwise.encoders_layers import embedded
from ivjax.experiment.computing import Compute
from ivjax.models.cross_modal import CrossModalSize

Inputs = Mapping[str, Any]


def run(size: CrossModalSize, params: dict[str, Any], inputs: Inputs, dtype: Any) -> dict[str, Any]:
    """The video tower masked and whole, the audio tower, and the embeddings of all."""
    model = size.build(Compute(dtype))
    # The audio-visual fixtures call their runs by name, the visual ones by medium.
    media = {"av_single": "video"} if size.audio else {"video": "video", "image": "image"}
    found: dict[str, Any] = {}
    for run_name, medium in media.items():
        if medium in inputs and f"{medium}_mask" in inputs:
            found |= _seen(size, params, inputs, medium, run_name, dtype)
    if "input_ids" in inputs:
        ids = jnp.asarray(inputs["input_ids"], jnp.int32)
        found |= {f"{name}/text_proj": model.words(params, ids) for name in media if name in inputs}
    if size.audio and "fbank" in inputs:
        tokens = model.hear(params, jnp.asarray(inputs["fbank"]))
        sound = {
            "beats_features": tokens,
            "audio_embeds": model.head("heard", params, tokens),
            "audio_proj": model.head("audio", params, tokens),
        }
        found |= {f"{name}/{layer}": x for name in ("av_single", "audio") for layer, x in sound.items()}
    return found


def _seen(
    size: CrossModalSize, params: dict[str, Any], inputs: Inputs, medium: str, run_name: str, dtype: Any
) -> dict[str, Any]:
    """Patches, streams, tokens and embeddings of clips that are seen through their mask."""
    video = jnp.moveaxis(jnp.asarray(inputs[medium]), 2, -1)
    visible = np.stack([np.flatnonzero(row == 0) for row in inputs[f"{medium}_mask"]])
    tower = size.vision.build(Compute(dtype), tuple(range(size.vision.depth)))
    encoded = tower.encode(params["vision"], video, jnp.asarray(visible, jnp.int32))
    model = size.build(Compute(dtype))
    found = {
        "patch_embed": embedded(size.vision, params["vision"], video, dtype),
        **{f"block{i}_out": tap for i, tap in enumerate(encoded.taps)},
        "vision_embeds": model.head("seen", params, encoded.tokens),
        "pooled_vision_embeds": encoded.pooled,
        "vision_proj": model.head("video", params, encoded.pooled),
    }
    return {f"{run_name}/{layer}": x for layer, x in found.items()}
