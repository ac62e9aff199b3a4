"""Features of frozen towers, which a student predicts at the tokens that it sees."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ivjax.models.layers import mean_over
from ivjax.models.segments import encode_segments
from ivjax.models.tower import VideoTower
from ivjax.ops.cut import Params
from ivjax.ops.losses import l2_normalise
from ivjax.ops.masking import gather_tokens

Norm = Literal["l2", "none"]  # whether features of a teacher get unit length


class ClipFeatures(NamedTuple):
    """A tower's features of clips of T times with L patches, not normalised; None if not asked for."""

    cls: Any  # (K, B, 1, C), the class token's streams after the tapped layers
    streams: Any  # (K, B, S, 1 + T*L/S, C), those of all tokens of each of S segments, its class token first
    pooled: Any  # (B, D)
    attention: Any  # (B, T, L) float32, the weight of each patch in the pooling


def clip_features(
    tower: VideoTower, params: Params, video: jax.Array, keep: jax.Array | None = None
) -> ClipFeatures:
    """Runs a tower on clips as a whole or, if its size is of fewer frames, on one segment after the other.

    Class tokens and pooled features are averaged over the segments, as InternVL-C's image tower does over
    frames. video (B, T, H, W, 3): uint8, or float that is normalised; keep (depth, 2, B * segments).
    """
    found = encode_segments(tower, params, video, keep=keep)
    streams, attention = found.streams, found.attention
    if attention is not None:
        attention = attention.reshape(len(video), found.segments * tower.size.grid[0], -1)
    # Averaged before anything is normalised: the originals divide by the length of the mean.
    cls = mean_over(streams[:, :, :, : tower.size.class_tokens], axis=2)
    return ClipFeatures(cls, streams, found.pooled, attention)


def features_at(features: ClipFeatures, visible: jax.Array, norm: Norm) -> jax.Array:
    """Features of tokens `visible` (B, 1 + n), class token first: (K, B, 1 + n, C) float32."""
    # Tokens are taken from the segments as they lie: to join these first would copy all of them.
    segment, place = jnp.divmod(visible[:, 1:] - 1, features.streams.shape[3] - 1)
    take = jax.vmap(lambda x, segment, place: x.at[segment, place + 1].get(mode="promise_in_bounds"))
    patches = jax.vmap(take, in_axes=(0, None, None))(features.streams, segment, place)
    return normalised(jnp.concatenate([features.cls, patches], axis=2), norm)


def at_tokens(features: jax.Array, index: jax.Array) -> jax.Array:
    """Takes tokens `index` (B, n) of every layer of (K, B, N, C)."""
    return jax.vmap(gather_tokens, in_axes=(0, None))(features, index)


def normalised(features: jax.Array, norm: Norm) -> jax.Array:
    """Float32, and of unit length along the last axis if `norm` says so."""
    return l2_normalise(features) if norm == "l2" else features.astype(jnp.float32)
