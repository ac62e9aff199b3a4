"""InternVideo2 as chat models read it: without pooling, and with a position table of its own for images."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2.encoder import PositionTable, with_scaled_residuals
from ivjax.models.internvideo2.sizes import UnpooledSize
from ivjax.models.layers import Block, PatchEmbed
from ivjax.models.stacks import run_blocks
from ivjax.models.tower import Encoded, VideoTower
from ivjax.ops.cut import Params
from ivjax.ops.masking import gather_tokens
from ivjax.ops.video import patchify, standardise


class UnpooledEncoder(nn.Module):
    """Tokens of a clip, or of an image, through the blocks."""

    size: UnpooledSize
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
        """Encodes clips of the size's frames, or images; the arguments are those of Encoder."""
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        patches = patchify(video, size.tubelet, size.patch)
        table = PositionTable(size.grid, size.width, "joint", name="pos_embed")()
        if size.image_table:
            of_images = PositionTable((1, *size.grid[1:]), size.width, "joint", name="img_pos_embed")()
            table = of_images if video.shape[1] == 1 else table
        if visible is not None:
            patches, table = gather_tokens(patches, visible[:, 1:] - 1), table[0][visible]
        embed = PatchEmbed(size.tubelet, size.patch, size.width, dtype=dtype, name="patch_embed")
        cls = self.param("cls_token", nn.initializers.normal(0.02), (1, 1, size.width))
        cls = jnp.broadcast_to(cls.astype(dtype), (video.shape[0], 1, size.width))
        x = jnp.concatenate([cls, embed(standardise(patches))], axis=1) + table.astype(dtype)
        block = Block(size.heads, size.mlp_width, size.layer_scale, size.gelu, dtype, name="blocks")
        x, taps = run_blocks(block, size.depth, x, self.compute, keep, self.taps, wanted)
        return Encoded(x, taps, None, None)


class UnpooledTower(VideoTower):
    """The encoder as a video tower; errors call it by this name."""

    def example(self) -> tuple[Any, ...]:
        """Returns one clip, of which the class token alone is seen."""
        return (*super().example(), jnp.zeros((1, 1), jnp.int32))

    def rescaled(self, params: Params) -> Params:
        """Returns the parameters with residual kernels scaled by depth."""
        return with_scaled_residuals(params)


def build(size: UnpooledSize, compute: Compute, taps: tuple[int, ...] = ()) -> UnpooledTower:
    """Returns the tower of a size; see UnpooledSize.build."""
    return UnpooledTower(size, UnpooledEncoder(size, compute, taps))
