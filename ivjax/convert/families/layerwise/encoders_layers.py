"""The encoders' layers under the names, and in the layout, of the originals' fixtures."""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp

from ivjax.convert.families.layerwise.watch import watch
from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.layers import PatchEmbed
from ivjax.models.sizes import VideoTowerSize
from ivjax.models.teaching import clip_features, normalised
from ivjax.models.videomae import VideoMaeSize
from ivjax.ops.video import patchify

Params = Mapping[str, Any]
Inputs = Mapping[str, Any]


def run_encoder(size: EncoderSize, params: Params, inputs: Inputs, dtype: Any) -> dict[str, jax.Array]:
    """Patch embedding, residual streams, the pooled feature and the attention of its pooling."""
    video = jnp.asarray(inputs["video"].transpose(0, 2, 3, 4, 1))
    tower = size.build(Compute(dtype), tuple(range(size.depth)))
    features = clip_features(tower, dict(params), video)
    streams = features.streams.reshape(size.depth, -1, *features.streams.shape[3:])
    return {
        "patch_embed": embedded(size, params, video, dtype),
        **{f"after_block_{i}": stream for i, stream in enumerate(streams)},
        "x_final": normalised(features.pooled, "l2"),
        "attn": features.attention.reshape(streams.shape[1], -1),
    }


def run_videomae(size: VideoMaeSize, params: Params, inputs: Inputs, dtype: Any) -> dict[str, jax.Array]:
    """Patch embedding and residual streams, the last one as it enters the norm, of unmasked clips."""
    video = jnp.asarray(inputs["video"].transpose(0, 2, 3, 4, 1))
    # Without a tap on the last layer, which would go through the norm: fixtures have it before.
    tower = size.build(Compute(dtype), tuple(range(size.depth - 1)))
    encoded, layers = watch(lambda: tower.encode(dict(params), video))
    tokens = embedded(size, params, video, dtype)
    streams = [*encoded.taps, layers["norm"][0]]
    return {
        "patch_embed": tokens.reshape(len(video), -1, size.width),
        **{f"after_block_{i}": stream for i, stream in enumerate(streams)},
    }


def embedded(size: VideoTowerSize, params: Params, video: jax.Array, dtype: Any) -> jax.Array:
    """Patches after their embedding, before positions are added: (B, T, L, C)."""
    embed = PatchEmbed(size.tubelet, size.patch, size.width, dtype=dtype)
    patches = patchify(video, size.tubelet, size.patch)
    tokens = cast(jax.Array, embed.apply({"params": params["patch_embed"]}, patches))
    return tokens.reshape(len(video), video.shape[1] // size.tubelet, -1, size.width)
