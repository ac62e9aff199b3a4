"""Clips that are longer than a tower's own: read one segment after the other.

A tower of single frames is an image tower; InternVL-C's reads videos this way.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ivjax.models.layers import mean_over
from ivjax.models.tower import Encoded, VideoTower, check_clips
from ivjax.ops.cut import Params


class Segmented(NamedTuple):
    """The output of a tower on each of S segments of B clips; the streams keep their segments apart."""

    encoded: Encoded  # of B * S clips
    segments: int
    class_tokens: int

    @property
    def streams(self) -> jax.Array:
        """The tapped streams (taps, B, S, n, C) of each segment's tokens, its class tokens first."""
        taps = self.encoded.taps
        return taps.reshape(len(taps), -1, self.segments, *taps.shape[2:])

    @property
    def pooled(self) -> jax.Array | None:
        """The mean over segments of what they pool (B, out)."""
        pooled = self.encoded.pooled
        return None if pooled is None else mean_over(self._apart(pooled), axis=1)

    @property
    def tokens(self) -> jax.Array:
        """The last states of whole clips (B, n, C): the mean of the class tokens, then all patches."""
        return self._joined(self._apart(self.encoded.tokens))

    @property
    def attention(self) -> jax.Array | None:
        """The weight of each patch in the pooling of its segment (B, patches of a clip)."""
        attention = self.encoded.attention
        if attention is None:
            return None
        return self._apart(attention)[:, :, self.class_tokens :].reshape(-1, self.segments * self._patches)

    @property
    def _patches(self) -> int:
        return self.encoded.tokens.shape[1] - self.class_tokens

    def _apart(self, rows: jax.Array) -> jax.Array:
        """(B * S, ...) -> (B, S, ...)."""
        return rows.reshape(-1, self.segments, *rows.shape[1:])

    def _joined(self, tokens: jax.Array) -> jax.Array:
        """(B, S, n, C) -> (B, class tokens + S * patches, C)."""
        first, patches = tokens[:, :, : self.class_tokens], tokens[:, :, self.class_tokens :]
        patches = patches.reshape(len(tokens), -1, tokens.shape[-1])
        return jnp.concatenate([mean_over(first, axis=1), patches], axis=1)


def encode_segments(
    tower: VideoTower,
    params: Params,
    video: jax.Array,
    visible: jax.Array | None = None,
    keep: jax.Array | None = None,
) -> Segmented:
    """Encodes clips (B, T, H, W, 3) in segments of the tower's own length.

    `visible` (B * S, n) and `keep` (depth, 2, B * S) are of the segments. A clip that is shorter than the
    tower's own is one segment: towers that read images take a single frame.
    """
    check_clips(video.shape, tower.size, segments=True)
    frames = min(tower.size.frames, video.shape[1])
    # Segments become rows of a larger batch: one pass, where a loop over segments
    # would be several small ones.
    folded = video.reshape(-1, frames, *video.shape[2:])
    encoded = tower.encode(params, folded, visible, keep)
    return Segmented(encoded, video.shape[1] // frames, tower.size.class_tokens)
