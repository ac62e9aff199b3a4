"""What frozen encoders say of clips, for a student to predict at the tokens that it sees."""

from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp

from ivjax.models.internvideo2.encoder import Encoded, Encoder, in_parts
from ivjax.models.layers import mean_over
from ivjax.ops.losses import l2_normalise
from ivjax.ops.masking import gather_tokens

Norm = Literal["l2", "none"]


class Taught(NamedTuple):
    """An encoder's features of clips of T frames with L patches, not normalised; None if not asked for."""

    cls: Any  # (K, B, 1, C), the class token's streams after the tapped layers
    streams: Any  # (K, B, P, 1 + T*L/P, C), those of all tokens of each of P parts, its class token first
    pooled: Any  # (B, D)
    attention: Any  # (B, T, L) float32, how much the pooling looks at each patch


def teach(
    encoder: Encoder, params: dict[str, Any], video: jax.Array, keep: jax.Array | None = None
) -> Taught:
    """Runs an encoder on clips as a whole or, if its size is of fewer frames, on one part after the other.

    Of single frames it is InternVL-C's image tower: class tokens and pooled features are averaged over the
    parts. video (B, T, H, W, 3): uint8, or float that is normalised; keep (depth, 2, B * parts).
    """
    size, batch = encoder.size, video.shape[0]
    parts = video.shape[1] // size.frames
    folded = in_parts(video, size.frames)
    encoded = cast(Encoded, encoder.apply({"params": params}, folded, None, keep))
    layers, width = encoded.taps.shape[0], encoded.taps.shape[-1]
    streams = encoded.taps.reshape(layers, batch, parts, -1, width)
    return Taught(
        cls=mean_over(streams[:, :, :, 0], axis=2)[:, :, None],
        streams=streams,
        pooled=mean_over(encoded.pooled.reshape(batch, parts, -1), axis=1),
        attention=encoded.attention[:, 1:].reshape(batch, parts * size.grid[0], -1),
    )


def features_at(taught: Taught, visible: jax.Array, norm: Norm) -> jax.Array:
    """Features of tokens `visible` (B, 1 + n), class token first: (K, B, 1 + n, C) float32."""
    # Tokens are taken from the parts as they lie: to join these first would copy all of them.
    part, place = jnp.divmod(visible[:, 1:] - 1, taught.streams.shape[3] - 1)
    take = jax.vmap(lambda x, part, place: x.at[part, place + 1].get(mode="promise_in_bounds"))
    patches = jax.vmap(take, in_axes=(0, None, None))(taught.streams, part, place)
    return normalised(jnp.concatenate([taught.cls, patches], axis=2), norm)


def at_tokens(features: jax.Array, index: jax.Array) -> jax.Array:
    """Takes tokens `index` (B, n) of every layer of (K, B, N, C)."""
    return jax.vmap(gather_tokens, in_axes=(0, None))(features, index)


def normalised(features: jax.Array, norm: Norm) -> jax.Array:
    """Float32, and of unit length along the last axis if `norm` says so."""
    return l2_normalise(features) if norm == "l2" else features.astype(jnp.float32)
