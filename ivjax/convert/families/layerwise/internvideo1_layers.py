"""The layers of InternVideo 1's multimodal branch under the names of the original's fixture."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.convert.families.layerwise.watch import watch
from ivjax.experiment.computing import Compute
from ivjax.models.internvideo1 import CaptioningSize
from ivjax.models.internvideo1.caption_decoder import CaptionBlock
from ivjax.ops.losses import l2_normalise

Params = Mapping[str, Any]
Inputs = Mapping[str, Any]


def run(size: CaptioningSize, params: Params, inputs: Inputs, dtype: Any) -> dict[str, jax.Array]:
    """Features of clips, of their first frames and of captions, cosines, and the decoder's layers."""
    model, ids = size.build(Compute(dtype)), jnp.asarray(inputs["text_ids"], jnp.int32)
    video = jnp.asarray(inputs["video"].transpose(0, 2, 3, 4, 1))
    seen = model.vision.encode(dict(params["vision"]), video)
    image = model.vision.encode(dict(params["vision"]), video[:, :1])
    _, states, _ = model.states.apply({"params": params["text"]}, ids)
    found, layers = watch(lambda: model.captioned(dict(params), video, ids))
    cosines = l2_normalise(found.video) @ l2_normalise(found.text).T
    return {
        "video_features": found.video,
        "video_all_feats": _tokens_first(seen.tokens, size.vision.class_tokens),
        "image_mode_features_frame0": image.pooled,
        "text_features": found.text,
        "text_all_feats": states,
        "logits": cosines * jnp.exp(params["logit_scale"]),
        "caption_pooled_visual": layers["norm_pooled"][1],
        "caption_logits": found.logits,
        **_first_block(size, params["caption_decoder"], layers, dtype),
    }


def _tokens_first(tokens: jax.Array, times: int) -> jax.Array:
    """Tokens of clips (B, T + T * L, C), class tokens first -> (1 + L, B, T, C)."""
    patches = tokens[:, times:].reshape(len(tokens), times, -1, tokens.shape[-1])
    return jnp.moveaxis(jnp.concatenate([tokens[:, :times, None], patches], axis=2), 2, 0)


def _first_block(size: CaptioningSize, params: Params, layers: Any, dtype: Any) -> dict[str, jax.Array]:
    """The words after each half of the first block."""
    x, clip = layers["norm_text"][1], layers["norm_pooled"][1]
    first = jax.tree.map(lambda leaf: leaf[0], params["blocks"])
    block = CaptionBlock(size.decoder.heads, dtype)
    whole, inside = watch(lambda: block.apply({"params": first}, x, None, clip))
    return {
        "caption_after_self0": x + inside["attn1"][1] + inside["mlp1"][1],
        "caption_after_cross0": whole,
    }
