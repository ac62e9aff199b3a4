"""The InternVideo2 video encoder: a ViT over tubelets with an attention-pooling head."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ivjax.experiment.computing import Remat
from ivjax.experiment.rules import Rules
from ivjax.models.internvideo2.rules import ENCODER
from ivjax.models.layers import AttentionPool, Block, Gelu, PatchEmbed, remat, run_blocks
from ivjax.ops import positions
from ivjax.ops.masking import gather_tokens
from ivjax.ops.video import patchify, standardise


@dataclass(frozen=True)
class EncoderSize:
    """Everything that shapes an InternVideo2 encoder's parameters. Released sizes: `PRESETS`."""

    width: int
    depth: int
    heads: int
    mlp_width: int
    pool_heads: int = 16
    pool_width: int = 768
    image: tuple[int, int] = (224, 224)
    patch: int = 14
    frames: int = 8
    tubelet: int = 1
    positions: Literal["joint", "separable"] = "joint"
    layer_scale: float | None = 1e-5
    gelu: Gelu = "tanh"

    PRESETS: ClassVar[dict[str, "EncoderSize"]]

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches along time, height and width."""
        height, width = self.image
        return self.frames // self.tubelet, height // self.patch, width // self.patch

    @property
    def patches(self) -> int:
        """Patches of one clip, without the class token."""
        times, rows, columns = self.grid
        return times * rows * columns

    @property
    def rules(self) -> Rules:
        """Rules of the encoder's parameters."""
        return ENCODER


EncoderSize.PRESETS = {
    "S14": EncoderSize(width=384, depth=12, heads=6, mlp_width=1536),
    "B14": EncoderSize(width=768, depth=12, heads=12, mlp_width=3072),
    "L14": EncoderSize(width=1024, depth=24, heads=16, mlp_width=4096),
    "1B": EncoderSize(width=1408, depth=40, heads=16, mlp_width=6144),
    "6B": EncoderSize(width=3200, depth=48, heads=25, mlp_width=12800),
    # InternVL-C's image tower, which reads frame by frame.
    "internvl_c": EncoderSize(width=3200, depth=48, heads=25, mlp_width=12800, frames=1, layer_scale=0.1),
}


class PositionTable(nn.Module):
    """Learned position embedding of a (T, H, W) grid, started from sin-cos codes.

    joint: one table (1, [1+]N, C). separable: spatial (1, H*W, C) + temporal (1, T, C), and a row
    of its own for the class token.
    """

    grid: tuple[int, int, int]
    width: int
    kind: Literal["joint", "separable"]
    cls: bool = True

    @nn.compact
    def __call__(self) -> jax.Array:
        """The whole table (1, [1+]N, C), float32."""
        times, rows, columns = self.grid
        if self.kind == "joint":
            start = positions.sincos_3d(self.width, *self.grid)
            return self._learned("table", positions.with_zero_cls(start) if self.cls else start)
        spatial = self._learned("spatial", positions.sincos_2d(self.width, rows, columns))
        temporal = self._learned("temporal", positions.sincos_1d(self.width, np.arange(times)))
        table = (temporal[:, :, None] + spatial[:, None]).reshape(1, -1, self.width)
        if not self.cls:
            return table
        return jnp.concatenate([self._learned("cls", np.zeros((1, self.width))), table], axis=1)

    def _learned(self, name: str, start: np.ndarray) -> jax.Array:
        return self.param(name, lambda _: jnp.asarray(start, jnp.float32)[None])


class Encoded(NamedTuple):
    """What an encoder makes of clips; n tokens, the class token first."""

    tokens: jax.Array  # (B, n, C), the last residual stream
    taps: jax.Array  # (taps, B, n, C), the streams after chosen layers
    pooled: jax.Array  # (B, pool_width)
    attention: jax.Array  # (B, n), how much the pooling looks at each token; rows sum to 1


class Encoder(nn.Module):
    """Tokens of a clip through the blocks, and pooled."""

    size: EncoderSize
    taps: tuple[int, ...] = ()
    remat: Remat = "none"
    scan: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, video: jax.Array, visible: jax.Array | None = None, keep: jax.Array | None = None
    ) -> Encoded:
        """Encodes a clip.

        video (B, T, H, W, 3): uint8, or float that is already normalised. visible (B, n): token
        indices, ascending, 0 first (class token); None for all. keep (depth, 2, B): drop-path
        multipliers.
        """
        size = self.size
        patches = patchify(video, size.tubelet, size.patch)
        table = PositionTable(size.grid, size.width, size.positions, name="pos_embed")()
        if visible is not None:
            # The embedding is linear per patch, so masked patches need not be embedded at all.
            patches = gather_tokens(patches, visible[:, 1:] - 1)
            table = table[0][visible]
        embedded = PatchEmbed(size.tubelet, size.patch, size.width, dtype=self.dtype, name="patch_embed")(
            standardise(patches)
        )
        cls = self.param("cls_token", nn.initializers.normal(0.02), (1, 1, size.width))
        cls = jnp.broadcast_to(cls.astype(self.dtype), (video.shape[0], 1, size.width))
        x = jnp.concatenate([cls, embedded], axis=1) + table.astype(self.dtype)
        block = remat(Block, self.remat)(
            size.heads, size.mlp_width, size.layer_scale, size.gelu, self.dtype, name="blocks"
        )
        x, taps = run_blocks(block, size.depth, x, keep, self.taps, self.scan)
        pool = AttentionPool(size.pool_heads, size.pool_width, self.dtype, name="clip_projector")
        return Encoded(x, taps, *pool(x))


def init_encoder(encoder: Encoder, key: jax.Array) -> dict[str, Any]:
    """Fresh float32 parameters as plain nested dicts."""
    size = encoder.size
    video = jnp.zeros((1, size.frames, *size.image, 3))
    return with_scaled_residuals(encoder.init(key, video, jnp.zeros((1, 1), jnp.int32))["params"])


def in_parts(video: jax.Array, frames: int) -> jax.Array:
    """Clips (B, T, H, W, 3) as parts of `frames` frames (B * T / frames, frames, H, W, 3)."""
    return video.reshape(-1, frames, *video.shape[2:])


def with_scaled_residuals(params: dict[str, Any]) -> dict[str, Any]:
    """An encoder's fresh parameters with the residual kernels scaled by depth."""
    return params | {"blocks": scale_residual_kernels(params["blocks"])}


def scale_residual_kernels(blocks: dict[str, Any]) -> dict[str, Any]:
    """Divides the output kernels of layer i by sqrt(2 (i + 1)), the family's start for deep stacks."""

    def scaled(branch: str, layer: str) -> dict[str, Any]:
        kernel = blocks[branch][layer]["kernel"]
        depth = jnp.arange(1, kernel.shape[0] + 1, dtype=kernel.dtype)
        factor = (2 * depth) ** -0.5
        return blocks[branch] | {layer: blocks[branch][layer] | {"kernel": kernel * factor[:, None, None]}}

    return blocks | {"attn": scaled("attn", "proj"), "mlp": scaled("mlp", "fc2")}
