"""InternVideo2-CLIP's layers under the names, and in the layout, of the originals' fixtures."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from ivjax.convert.families.layerwise.encoders_layers import embedded
from ivjax.convert.families.layerwise.watch import after_blocks
from ivjax.experiment.computing import Compute
from ivjax.models.dual_size import DualSize
from ivjax.models.iv2clip.mobile import MobileBlock
from ivjax.models.iv2clip.sizes import MobileTextSize
from ivjax.models.layers import layer_norm

Params = Mapping[str, Any]
Inputs = Mapping[str, Any]


def run_language(size: DualSize, params: Params, inputs: Inputs, dtype: Any) -> dict[str, Any]:
    """The features of both towers, and the words of texts."""
    text = params["text"]
    ids = jnp.asarray(inputs["text_ids"], jnp.int32)
    tower = size.text.build(Compute(dtype))
    return {
        **_vision(size, params["vision"], inputs["video"], dtype),
        "embed_tokens": jnp.asarray(text["language"]["word_embed"])[ids],
        "text_features": tower.encode(text, ids),
    }


def run_mobile(size: DualSize, params: Params, inputs: Inputs, dtype: Any) -> dict[str, Any]:
    """The features of both towers, and the streams of texts after each block."""
    size_of_text = size.text
    assert isinstance(size_of_text, MobileTextSize)
    text, ids = params["text"], jnp.asarray(inputs["text_ids"], jnp.int32)
    tower, found = size.text.build(Compute(dtype)), _vision(size, params["vision"], inputs["video"], dtype)
    words, places = jnp.asarray(text["word_embed"]), jnp.asarray(text["place_embed"])
    if ids.shape[1] == len(places):
        x = (words[ids] + places).astype(dtype)
        blocks = after_blocks(lambda name: MobileBlock(size_of_text, dtype, name=name), text["blocks"], x)
        found |= {"text_embedding": x, **{f"text_layer{i}_out": block for i, block in enumerate(blocks)}}
        final = layer_norm("norm", dtype).clone(name=None).apply({"params": text["norm"]}, blocks[-1])
        found["text_final_norm"] = final
    return found | {"text_features": tower.encode(text, ids)}


def _vision(size: DualSize, params: Params, video: Any, dtype: Any) -> dict[str, Any]:
    video = jnp.moveaxis(jnp.asarray(video), 2, -1)
    tower = size.vision.build(Compute(dtype), tuple(range(size.vision.depth)))
    encoded = tower.encode(dict(params), video)
    return {
        "patch_embed": embedded(size.vision, params, video, dtype),
        **{f"block{i}_out": tap for i, tap in enumerate(encoded.taps)},
        "vision_features": encoded.pooled,
    }
