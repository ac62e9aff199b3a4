"""What stage 2 has beside its towers: projections, judges of pairs, and heads that predict a teacher."""

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.cross_modal.sizes import CrossModalSize
from ivjax.models.internvideo2.aligned import still_table
from ivjax.models.internvideo2.encoder import PositionTable
from ivjax.models.internvideo2.student import Decoder, per_layer
from ivjax.models.layers import KERNEL_STD, dense, layer_norm
from ivjax.models.sizes import Compared


class Predicted(NamedTuple):
    """What the heads predict of a teacher, or None without such heads."""

    clip: Any  # (K, B, n, width)
    pooled: Any  # (B, width)


class JointTokens(nn.Module):
    """Brings tokens to the width that texts look at."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """(B, n, C) -> (B, n, width)."""
        return layer_norm("norm", self.dtype)(dense(self.width, self.dtype, "fc")(tokens))


class Heads(nn.Module):
    """All of them; the names of the methods say what they make."""

    size: CrossModalSize
    compute: Compute

    def setup(self) -> None:
        size, dtype = self.size, jnp.dtype(self.compute.dtype)

        def linear(out: int, dtype: Any = dtype) -> nn.Module:
            return nn.Dense(out, dtype=dtype, kernel_init=nn.initializers.normal(KERNEL_STD))

        self.vision_proj = linear(size.out)
        if size.joint_width is not None:
            self.see = JointTokens(size.joint_width, dtype)
        if size.audio is not None:
            assert size.joint_width is not None
            self.audio_proj = linear(size.out)
            self.hear = JointTokens(size.joint_width, dtype)
        if size.fused:
            self.both_proj = linear(size.out)
        # In float32, because their two logits are compared.
        for medium in size.matches:
            setattr(self, f"{medium}_match", linear(2, jnp.float32))
        if size.clip is not None:
            self.clip_pos_embed = PositionTable(size.grid, size.vision.width, "joint")
            if self._still:
                self.clip_img_pos_embed = PositionTable((1, *size.grid[1:]), size.vision.width, "joint")
            self.clip_decoder = per_layer(size.clip, dtype)
        if size.pooled is not None:
            pooled = size.pooled
            self.final_clip_decoder = Decoder(pooled.width, pooled.head, pooled.norm, dtype)

    @property
    def _still(self) -> bool:
        return getattr(self.size.vision, "images", "mean") == "table"

    def video(self, pooled: jax.Array) -> jax.Array:
        """What clips pool (B, C) -> embeddings (B, out)."""
        return cast(jax.Array, self.vision_proj(pooled))

    def audio(self, tokens: jax.Array) -> jax.Array:
        """Tokens of sounds (B, n, C) -> embeddings (B, out)."""
        mean = jnp.mean(tokens, axis=1, dtype=jnp.float32)
        return cast(jax.Array, self.audio_proj(mean.astype(tokens.dtype)))

    def both(self, audio: jax.Array, video: jax.Array) -> jax.Array:
        """Embeddings of sounds and of clips (B, out), not normalised -> embeddings of both."""
        return cast(jax.Array, self.both_proj(jnp.concatenate([audio, video], axis=-1)))

    def seen(self, tokens: jax.Array) -> jax.Array:
        """Tokens of clips (B, n, C) as texts look at them."""
        return tokens if self.size.joint_width is None else cast(jax.Array, self.see(tokens))

    def heard(self, tokens: jax.Array) -> jax.Array:
        """Tokens of sounds (B, n, C) as texts look at them."""
        return cast(jax.Array, self.hear(tokens))

    def match(self, states: jax.Array, medium: Compared) -> jax.Array:
        """First states (B, C) of texts that looked at a medium -> logits (B, 2): no, yes."""
        return cast(jax.Array, getattr(self, f"{medium}_match")(states))

    def predicted(self, taps: jax.Array, pooled: jax.Array, visible: jax.Array, frames: int) -> Predicted:
        """Predicts a teacher at tokens `visible` (B, n), class token first, of clips of so many frames."""
        clip = None
        if self.size.clip is not None:
            table = self.clip_pos_embed()
            if frames == 1 < self.size.vision.frames:
                table = self.clip_img_pos_embed() if self._still else still_table(table, self.size.grid)
            clip = self.clip_decoder(taps + table[0][visible].astype(taps.dtype))
        final = None if self.size.pooled is None else self.final_clip_decoder(pooled)
        return Predicted(clip, final)

    def __call__(self) -> None:
        """Touches all parameters, for `init`."""
        size = self.size
        width, out = size.vision.width, size.vision.out
        assert out is not None
        video = self.video(jnp.zeros((1, out)))
        self.seen(jnp.zeros((1, 1, width)))
        if size.audio is not None:
            sound = jnp.zeros((1, 1, size.audio.width))
            self.heard(sound)
            audio = self.audio(sound)
            if size.fused:
                self.both(audio, video)
        for medium in size.matches:
            self.match(jnp.zeros((1, size.text.width)), medium)
        if size.clip is not None:
            taps, first = jnp.zeros((size.clip.layers, 1, 1, width)), jnp.zeros((1, 1), jnp.int32)
            self.predicted(taps, jnp.zeros((1, out)), first, size.vision.frames)
            if self._still:
                self.predicted(taps, jnp.zeros((1, out)), first, 1)
        elif size.pooled is not None:
            self.final_clip_decoder(jnp.zeros((1, out)))
