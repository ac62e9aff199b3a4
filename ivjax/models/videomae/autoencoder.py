"""VideoMAE's pre-training model: an encoder of the visible tokens, a decoder of the pixels of others."""

import functools
import zlib
from dataclasses import dataclass
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.layers import dense, layer_norm
from ivjax.models.stacks import run_blocks
from ivjax.models.videomae.encoder import EPSILON, VideoMaeBlock, VideoMaeEncoder
from ivjax.models.videomae.sizes import AttentionKind, AutoencoderSize, DecoderSize
from ivjax.ops.cut import Params
from ivjax.ops.positions import sinusoid_interleaved
from ivjax.ops.trees import map_with_path


class PixelDecoder(nn.Module):
    """Blocks over all tokens that it is given, and a head over the last ones."""

    size: DecoderSize
    pixels: int
    compute: Compute
    layer_scale: float | None = None
    attention: AttentionKind = "standard"

    @nn.compact
    def __call__(self, x: jax.Array, count: int, keep: jax.Array | None = None) -> jax.Array:
        """(B, N, D) -> (B, count, pixels); keep (depth, 2, B): drop-path multipliers."""
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        block = VideoMaeBlock(
            size.heads, size.mlp_width, self.layer_scale, self.attention, dtype, name="blocks"
        )
        x, _ = run_blocks(block, size.depth, x, self.compute, keep)
        # Not `-count`, which would take all tokens where count is 0.
        x = layer_norm("norm", dtype, EPSILON)(x[:, x.shape[1] - count :])
        return dense(self.pixels, dtype, "head")(x)


class MaskedAutoencoder(nn.Module):
    """Encodes the visible tokens of a clip and predicts the pixels of others from them."""

    size: AutoencoderSize
    compute: Compute

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        visible: jax.Array,
        decoded: jax.Array,
        keep: jax.Array | None = None,
        decoder_keep: jax.Array | None = None,
    ) -> jax.Array:
        """Predictions (B, m, tubelet*patch*patch*3) for the patches `decoded`, in their order.

        video (B, T, H, W, 3): uint8, or float that is already normalised. visible (B, n), decoded (B, m):
        patches, ascending. keep, decoder_keep (depth, 2, B): drop-path multipliers of either stack.
        """
        size, decoder, dtype = self.size.encoder, self.size.decoder, jnp.dtype(self.compute.dtype)
        seen = VideoMaeEncoder(size, self.compute, name="encoder")(video, visible, keep).tokens
        seen = dense(decoder.width, dtype, "encoder_to_decoder", bias=False)(seen)
        # VideoMAE's own truncated normal is cut at one deviation.
        start = nn.initializers.truncated_normal(0.02, lower=-1.0, upper=1.0)
        blank = self.param("mask_token", start, (1, 1, decoder.width))
        x = with_blanks(seen, blank, visible, decoded, size.patches)
        pixels = size.tubelet * size.patch**2 * 3
        paint = PixelDecoder(decoder, pixels, self.compute, size.layer_scale, size.attention, name="decoder")
        return paint(x, decoded.shape[1], decoder_keep)


def with_blanks(
    seen: jax.Array, blank: jax.Array, visible: jax.Array, decoded: jax.Array, patches: int
) -> jax.Array:
    """The decoder's input (B, n + m, D), all with the codes of their places among `patches`: features of the
    visible patches (B, n, D), then one `blank` (1, 1, D) for each patch that is decoded."""
    # Blanks differ by their place alone, so the decoder needs positions of its own;
    # they are fixed as the encoder's.
    table = jnp.asarray(sinusoid_interleaved(patches, seen.shape[-1])).astype(seen.dtype)
    return jnp.concatenate([seen + table[visible], blank.astype(seen.dtype) + table[decoded]], axis=1)


def _redrawn(key: jax.Array, path: str, leaf: jax.Array) -> jax.Array:
    """Kernels of linear layers uniform: within Glorot's bound, the bridge's within that of its inputs."""
    if not path.endswith("/kernel") or path.endswith("patch_embed/kernel"):
        return leaf
    inputs, outputs = leaf.shape[-2:]
    if path.endswith("qkv/kernel"):
        # In the originals the three are one matrix, whose bound counts all of its outputs.
        outputs *= 3
    bound = (inputs if path.startswith("encoder_to_decoder") else (inputs + outputs) / 6) ** -0.5
    # By a checksum of the path, because Python's own hash of a text changes from process to process.
    key = jax.random.fold_in(key, zlib.crc32(path.encode()))
    return jax.random.uniform(key, leaf.shape, leaf.dtype, -bound, bound)


@dataclass(frozen=True)
class AutoencoderModel:
    """The pre-training model: a frozen size and a Flax module; parameters are passed in.

    Attributes:
        size: its size.
        module: the module whose parameters `init` draws.
    """

    size: AutoencoderSize
    module: MaskedAutoencoder

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts, drawn as VideoMAE draws them."""
        size = self.size.encoder
        video = jnp.zeros((1, size.frames, *size.image, 3))
        first = jnp.zeros((1, 1), jnp.int32)
        params = self.module.init(key, video, first, first)["params"]
        # The originals draw encoder and decoder by one rule, and leave the bridge between them to torch.
        return map_with_path(functools.partial(_redrawn, key), params)

    def predict(
        self,
        params: Params,
        video: jax.Array,
        visible: jax.Array,
        decoded: jax.Array,
        keep: jax.Array | None = None,
        decoder_keep: jax.Array | None = None,
    ) -> jax.Array:
        """Returns predicted pixels (B, m, tubelet*patch*patch*3) of the patches `decoded` (B, m)."""
        out = self.module.apply({"params": params}, video, visible, decoded, keep, decoder_keep)
        return cast(jax.Array, out)


def build(size: AutoencoderSize, compute: Compute) -> AutoencoderModel:
    """Returns the model of a size; see AutoencoderSize.build."""
    return AutoencoderModel(size, MaskedAutoencoder(size, compute))
