"""ViCLIP's towers: CLIP's vision transformer over all frames of a clip, and its text transformer."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.layers import KERNEL_STD, Attention, Mlp, PatchEmbed, dense, layer_norm, scaled_branch
from ivjax.models.stacks import enter_block, run_blocks
from ivjax.models.tower import Encoded, TextTower, VideoTower
from ivjax.models.viclip.sizes import TextSize, VisionSize
from ivjax.ops.cut import Params
from ivjax.ops.masking import gather_tokens
from ivjax.ops.video import patchify, standardise


class ClipBlock(nn.Module):
    """CLIP's pre-norm block: LayerNorm, attention with biases, MLP with the quick GELU."""

    heads: int
    causal: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array | None = None) -> jax.Array:
        """(B, N, C) -> (B, N, C). `keep` (2, B) multiplies the two branches of each sample."""
        x = enter_block(x)
        width = x.shape[-1]
        attention = Attention(
            self.heads, self.dtype, qk_norm=False, bias=True, causal=self.causal, name="attn"
        )
        x = x + scaled_branch(attention(layer_norm("norm1", self.dtype)(x)), keep, 0)
        mlp = Mlp(4 * width, width, "quick", self.dtype, name="mlp")
        return x + scaled_branch(mlp(layer_norm("norm2", self.dtype)(x)), keep, 1)


class VisionTransformer(nn.Module):
    """A clip as one vector: the class token after joint attention over all frames' patches.

    Patches are numbered time-major from 1 here; the original numbers them place by place. Attention
    does not see the difference, but a mask drawn elsewhere must be renumbered.
    """

    size: VisionSize
    compute: Compute
    taps: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        visible: jax.Array | None = None,
        keep: jax.Array | None = None,
        wanted: jax.Array | None = None,
    ) -> Encoded:
        """Encodes a clip (B, T, H, W, 3). A single temporal position is an image: it takes the mean of the
        time embeddings.

        visible (B, 1 + n): token indices, ascending, 0 first (class token); None for all. keep (depth, 2, B):
        drop-path multipliers. wanted (B, m): the tokens that taps are taken at; None for all. `tokens` are
        normalised, `pooled` is the projected class token, and nothing in it attends to tokens.
        """
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        patches = patchify(video, size.tubelet, size.patch)
        cls, table = self._positions(video.shape[1] // size.tubelet)
        if visible is not None:
            # The embedding is linear per patch, so masked patches need not be embedded at all.
            patches = gather_tokens(patches, visible[:, 1:] - 1)
            table = table[visible[:, 1:] - 1]
        embed = PatchEmbed(size.tubelet, size.patch, size.width, False, dtype, name="patch_embed")
        x = embed(standardise(patches)) + table.astype(dtype)
        cls = jnp.broadcast_to(cls.astype(dtype), (len(x), 1, size.width))
        x = layer_norm("norm_pre", dtype)(jnp.concatenate([cls, x], axis=1))
        block = ClipBlock(size.heads, dtype=dtype, name="blocks")
        x, taps = run_blocks(block, size.depth, x, self.compute, keep, self.taps, wanted)
        # Called twice, so that the class token alone is normalised where nobody asks for the other tokens.
        norm = layer_norm("norm_post", dtype)
        pooled = dense(size.out, dtype, "proj", bias=False)(norm(x[:, 0]))
        return Encoded(norm(x), taps, pooled, None)

    def _positions(self, times: int) -> tuple[jax.Array, jax.Array]:
        """Returns the class token with its position (C,), and the positions of the patches (T*H*W, C)."""
        size, normal = self.size, nn.initializers.normal(self.size.width**-0.5)
        most, rows, columns = size.grid
        cls = self.param("cls_token", normal, (size.width,))
        # Rows of one table for class token and places, and a table of times beside it: CLIP's own table
        # stays whole, and times, which start at 0, leave CLIP's image features as they are.
        spatial = self.param("spatial_embed", normal, (1 + rows * columns, size.width))
        temporal = self.param("temporal_embed", nn.initializers.zeros, (1, most, size.width))[0]
        if times == 1:
            temporal = temporal.mean(0, keepdims=True)
        table = temporal[:, None] + spatial[None, 1:]
        return cls + spatial[0], table.reshape(-1, size.width)


class TextTransformer(nn.Module):
    """A caption as one vector: the state at its first end token."""

    size: TextSize
    compute: Compute

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        """(B, L) int -> (B, out)."""
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        end = jnp.take_along_axis(self._stream(ids), self._ends(ids)[:, None, None], axis=1)[:, 0]
        return dense(size.out, dtype, "proj", bias=False)(layer_norm("norm", dtype)(end))

    def _stream(self, ids: jax.Array) -> jax.Array:
        """The states (B, L, C) after the last block."""
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        words = self.param("word_embed", nn.initializers.normal(0.02), (size.vocabulary, size.width))
        places = self.param("place_embed", nn.initializers.normal(0.01), (size.context, size.width))
        x = (words[ids] + places[: ids.shape[1]]).astype(dtype)
        block = ClipBlock(size.heads, causal=True, dtype=dtype, name="blocks")
        return run_blocks(block, size.depth, x, self.compute)[0]

    def _ends(self, ids: jax.Array) -> jax.Array:
        """The place of the first end token of each text (B,)."""
        # CLIP's end token has the largest id of its vocabulary; argmax takes the first of equals.
        return jnp.argmax(ids if self.size.end is None else ids == self.size.end, axis=-1)


class TextStates(TextTransformer):
    """The text transformer with the states of all tokens, which a decoder of captions reads."""

    @nn.compact
    def __call__(  # type: ignore[override]
        self, ids: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(B, L) int -> embeddings (B, out), normalised states (B, L, C), places of the end tokens (B,)."""
        dtype, ends = jnp.dtype(self.compute.dtype), self._ends(ids)
        states = layer_norm("norm", dtype)(self._stream(ids))
        end = jnp.take_along_axis(states, ends[:, None, None], axis=1)[:, 0]
        return dense(self.size.out, dtype, "proj", bias=False)(end), states, ends


class ClipVisionTower(VideoTower):
    """The video tower by the protocol of towers; what it pools is the projected class token."""

    def example(self) -> tuple[Any, ...]:
        """One temporal position."""
        return (jnp.zeros((1, self.size.tubelet, *self.size.image, 3)),)

    def rescaled(self, params: Params) -> Params:
        """Kernels have CLIP's deviations."""
        return _scaled_as_clip(params)


class ClipTextTower(TextTower):
    """The text tower by the protocol of towers."""

    def rescaled(self, params: Params) -> Params:
        """Kernels have CLIP's deviations."""
        return _scaled_as_clip(params)


def build_vision(size: VisionSize, compute: Compute, taps: tuple[int, ...] = ()) -> ClipVisionTower:
    """Returns the tower of a size; see VisionSize.build."""
    return ClipVisionTower(size, VisionTransformer(size, compute, taps))


def build_text(size: TextSize, compute: Compute) -> ClipTextTower:
    """Returns the tower of a size; see TextSize.build."""
    return ClipTextTower(size, TextTransformer(size, compute))


def _scaled_as_clip(tower: Params) -> Params:
    """Kernels of a fresh tower with CLIP's deviations: by width, and by depth where a branch ends."""
    width, depth = tower["proj"]["kernel"].shape[0], len(tower["blocks"]["norm1"]["scale"])
    end = (2 * depth * width) ** -0.5
    deviations = {"qkv": width**-0.5, "proj": end, "fc1": (2 * width) ** -0.5, "fc2": end}

    def scaled(layers: Params) -> Params:
        return {
            name: layer | {"kernel": layer["kernel"] * (deviations[name] / KERNEL_STD)}
            for name, layer in layers.items()
        }

    blocks = tower["blocks"]
    blocks = blocks | {branch: scaled(blocks[branch]) for branch in ("attn", "mlp")}
    # Divided by the deviation that `dense` has drawn with already.
    proj = {"kernel": tower["proj"]["kernel"] * (width**-0.5 / KERNEL_STD)}
    return tower | {"blocks": blocks, "proj": proj}
