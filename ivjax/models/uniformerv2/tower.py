"""UniFormerV2 as a video tower: CLIP's blocks on each time, and a video token that reads all of them."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.batch_norm import STATISTICS
from ivjax.models.layers import PatchEmbed, dense, layer_norm, mean_over
from ivjax.models.stacks import run_collecting
from ivjax.models.tower import Encoded, EncodedBatch, VideoTower
from ivjax.models.uniformerv2.blocks import GlobalBlock, UniFormerBlock
from ivjax.models.uniformerv2.sizes import UniFormerV2Size
from ivjax.ops.masking import gather_tokens
from ivjax.ops.randomness import drop_path
from ivjax.ops.trees import paths_of
from ivjax.ops.video import patchify, standardise


class _Drops(NamedTuple):
    """What training drops of the global blocks: of each of G, for each clip; None where it drops nothing."""

    keep: Any = None  # (G, 2, B) multipliers of the two branches
    kept: Any = None  # (G, B, hidden) bool, the hidden channels that stay


class UniFormerV2(nn.Module):
    """Tokens of a clip through the blocks, and pooled by the global ones."""

    size: UniFormerV2Size
    compute: Compute
    taps: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        visible: jax.Array | None = None,
        keep: jax.Array | None = None,
        wanted: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> Encoded | EncodedBatch:
        """Encodes a clip; see VideoTower.encode. Class tokens of all times go first, then the patches.

        keys (B,): those of dropout, given in training alone; local modules then norm by the batch.
        """
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        if visible is not None:
            raise UserError(
                "UniFormerV2 sees whole frames, because its convolutions need all patches; set stage.mask=0"
            )
        x, times = self._entering(video)
        block = UniFormerBlock(
            size.heads, times, size.local, size.local_width, keys is not None, dtype, name="blocks"
        )
        every = tuple(sorted({*size.returned, *self.taps}))
        collection = STATISTICS if keys is not None and size.local else ""
        keep = keep if keep is None else jnp.repeat(keep, times, axis=2)
        x, streams, sown = run_collecting(block, size.depth, x, self.compute, collection, keep, every)
        # (B * T, 1 + L, C) -> (B, T, 1 + L, C).
        x, streams = (y.reshape(*y.shape[:-3], -1, times, *y.shape[-2:]) for y in (x, streams))
        pooled = self._pooled(x, streams[jnp.array([every.index(i) for i in size.returned])], keys)
        taps = streams[jnp.array([every.index(i) for i in self.taps], jnp.int32)]
        taps = jax.vmap(_joined)(taps)
        if wanted is not None:
            taps = jax.vmap(gather_tokens, in_axes=(0, None))(taps, wanted)
        if not sown:
            return Encoded(_joined(x), taps, pooled, None)
        statistics = {f"blocks/{path}": leaf for path, leaf in paths_of(sown)}
        return EncodedBatch(_joined(x), taps, pooled, None, statistics)

    def _entering(self, video: jax.Array) -> tuple[jax.Array, int]:
        """Tokens before the first block (B * T, 1 + L, C), and T."""
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        length = 1 if size.tubelet == 1 else 3
        patches = patchify(video if length == 1 else overlapping(video), length, size.patch)
        times = video.shape[1] // size.tubelet
        embed = PatchEmbed(length, size.patch, size.width, False, dtype, name="patch_embed")
        x = embed(standardise(patches)).reshape(len(video) * times, -1, size.width)
        normal = nn.initializers.normal(size.width**-0.5)
        cls = self.param("cls_token", normal, (size.width,))
        table = self.param("spatial_embed", normal, (1 + x.shape[1], size.width))
        cls = jnp.broadcast_to((cls + table[0]).astype(dtype), (len(x), 1, size.width))
        x = jnp.concatenate([cls, x + table[1:].astype(dtype)], axis=1)
        return layer_norm("norm_pre", dtype)(x), times

    def _pooled(self, x: jax.Array, streams: jax.Array, keys: jax.Array | None) -> jax.Array:
        """The last block's tokens (B, T, 1 + L, C), those of the returned ones (G, ...) -> (B, out)."""
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        token = self.param("video_token", nn.initializers.zeros, (1, 1, size.width)).astype(dtype)
        drops = _Drops() if keys is None else _drawn(size, keys)
        block = GlobalBlock if self.compute.remat == "none" else nn.remat(GlobalBlock)
        stacked = nn.scan(
            lambda block, query, given: (block(query, *given), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=len(size.returned),
        )
        inner = block(size.global_heads, size.global_mlp, size.grid[1], size.dropout, dtype, name="globals")
        query = jnp.broadcast_to(token, (len(x), 1, size.width))
        query = stacked(inner, query, (streams, *drops))[0][:, 0]
        if size.fused:
            balance = self.param("balance", nn.initializers.zeros, (size.width,))
            share = jax.nn.sigmoid(balance).astype(dtype)
            query = (1 - share) * query + share * mean_over(x[:, :, 0], axis=1)
        if size.projection is None:
            return query
        return dense(size.projection, dtype, "proj", bias=False)(layer_norm("norm_post", dtype)(query))


def overlapping(video: jax.Array) -> jax.Array:
    """Clips (B, T, H, W, 3) -> normalised windows of three frames, two apart: (B, 3 * T / 2, H, W, 3).

    The first window begins with a frame of zeros: so a convolution is padded, and zero is the mean colour.
    """
    frames = standardise(video)
    padded = jnp.pad(frames, ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)))
    length = video.shape[1]
    windows = jnp.stack([padded[:, i : i + length : 2] for i in range(3)], axis=2)
    return windows.reshape(len(video), -1, *video.shape[2:])


def _drawn(size: UniFormerV2Size, keys: jax.Array) -> _Drops:
    count = len(size.returned)
    each = jax.vmap(jax.random.split)(keys)
    keep = drop_path(each[:, 0], size.global_drop_path, count)
    if not size.dropout:
        return _Drops(keep)
    shape = (count, size.global_mlp)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - size.dropout, shape))(each[:, 1])
    return _Drops(keep, kept.swapaxes(0, 1))


def _joined(x: jax.Array) -> jax.Array:
    """Tokens of times (B, T, 1 + L, C) -> those of clips (B, T + T * L, C), class tokens first."""
    patches = x[:, :, 1:].reshape(len(x), -1, x.shape[-1])
    return jnp.concatenate([x[:, :, 0], patches], axis=1)


class UniFormerV2Tower(VideoTower):
    """The encoder as a video tower; errors call it by this name."""


def build(size: UniFormerV2Size, compute: Compute, taps: tuple[int, ...] = ()) -> UniFormerV2Tower:
    """Returns the tower of a size; see UniFormerV2Size.build."""
    return UniFormerV2Tower(size, UniFormerV2(size, compute, taps))
