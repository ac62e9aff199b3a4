"""Two towers for clips and captions: ViCLIP's, or an InternVideo2 encoder beside the words."""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Remat
from ivjax.experiment.rules import Rules
from ivjax.models.internvideo2.encoder import Encoder, EncoderSize, in_parts, with_scaled_residuals
from ivjax.models.layers import (
    KERNEL_STD,
    Attention,
    Mlp,
    PatchEmbed,
    dense,
    enter_block,
    layer_norm,
    mean_over,
    remat,
    run_blocks,
)
from ivjax.models.viclip.rules import TEXT, VISION
from ivjax.ops.masking import gather_tokens
from ivjax.ops.video import patchify, standardise

Params = dict[str, Any]


@dataclass(frozen=True)
class VisionSize:
    """Everything that shapes the video tower. Released sizes: `PRESETS`."""

    width: int
    depth: int
    heads: int
    out: int
    patch: int
    image: tuple[int, int] = (224, 224)
    frames: int = 8
    tubelet: int = 1

    PRESETS: ClassVar[dict[str, "VisionSize"]]

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
        """Rules of the tower's parameters."""
        return VISION


@dataclass(frozen=True)
class TextSize:
    """Everything that shapes the text tower. Released sizes: `PRESETS`."""

    width: int
    depth: int
    heads: int
    out: int
    context: int = 32
    vocabulary: int = 49408
    end: int | None = None  # the end token's id; None: the largest id of a text, as in CLIP

    PRESETS: ClassVar[dict[str, "TextSize"]]

    @property
    def rules(self) -> Rules:
        """Rules of the tower's parameters."""
        return TEXT


VisionSize.PRESETS = {
    "B16": VisionSize(width=768, depth=12, heads=12, out=512, patch=16),
    "L14": VisionSize(width=1024, depth=24, heads=16, out=768, patch=14),
}
TextSize.PRESETS = {
    "B": TextSize(width=512, depth=12, heads=8, out=512),
    "L": TextSize(width=768, depth=12, heads=12, out=768),
}


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
        x = x + _kept(attention(layer_norm("norm1", self.dtype)(x)), keep, 0)
        mlp = Mlp(4 * width, width, "quick", self.dtype, name="mlp")
        return x + _kept(mlp(layer_norm("norm2", self.dtype)(x)), keep, 1)


def _kept(branch: jax.Array, keep: jax.Array | None, which: int) -> jax.Array:
    return branch if keep is None else branch * keep[which][:, None, None].astype(branch.dtype)


class VisionTower(nn.Module):
    """A clip as one vector: the class token after joint attention over all frames' patches.

    Patches are numbered time-major from 1 here; the original numbers them place by place. Attention
    does not see the difference, but a mask drawn elsewhere must be renumbered.
    """

    size: VisionSize
    remat: Remat = "none"
    scan: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        visible: jax.Array | None = None,
        keep: jax.Array | None = None,
        pooled: bool = True,
    ) -> jax.Array:
        """video (B, T, H, W, 3), visible (B, 1 + n) token indices or None, keep (depth, 2, B) -> (B, out).

        Not `pooled`: the states of all tokens (B, 1 + n, width). A single temporal position is an image: it
        takes the mean of the time embeddings.
        """
        size = self.size
        patches = patchify(video, size.tubelet, size.patch)
        cls, table = self._positions(video.shape[1] // size.tubelet)
        if visible is not None:
            # The embedding is linear per patch, so masked patches need not be embedded at all.
            patches = gather_tokens(patches, visible[:, 1:] - 1)
            table = table[visible[:, 1:] - 1]
        embed = PatchEmbed(
            size.tubelet, size.patch, size.width, bias=False, dtype=self.dtype, name="patch_embed"
        )
        x = embed(standardise(patches)) + table.astype(self.dtype)
        cls = jnp.broadcast_to(cls.astype(self.dtype), (len(x), 1, size.width))
        x = layer_norm("norm_pre", self.dtype)(jnp.concatenate([cls, x], axis=1))
        block = remat(ClipBlock, self.remat)(size.heads, dtype=self.dtype, name="blocks")
        x, _ = run_blocks(block, size.depth, x, keep, scan=self.scan)
        x = layer_norm("norm_post", self.dtype)(x[:, 0] if pooled else x)
        return dense(size.out, self.dtype, "proj", bias=False)(x) if pooled else x

    def _positions(self, times: int) -> tuple[jax.Array, jax.Array]:
        """What the class token starts from (C,), and what is added to the patches (T*H*W, C)."""
        size, normal = self.size, nn.initializers.normal(self.size.width**-0.5)
        most, rows, columns = size.grid
        cls = self.param("cls_token", normal, (size.width,))
        spatial = self.param("spatial_embed", normal, (1 + rows * columns, size.width))
        temporal = self.param("temporal_embed", nn.initializers.zeros, (1, most, size.width))[0]
        if times == 1:
            temporal = temporal.mean(0, keepdims=True)
        table = temporal[:, None] + spatial[None, 1:]
        return cls + spatial[0], table.reshape(-1, size.width)


class TextTower(nn.Module):
    """A caption as one vector: the state at its first end token."""

    size: TextSize
    remat: Remat = "none"
    scan: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        """(B, L) int -> (B, out)."""
        size = self.size
        words = self.param("word_embed", nn.initializers.normal(0.02), (size.vocabulary, size.width))
        places = self.param("place_embed", nn.initializers.normal(0.01), (size.context, size.width))
        x = (words[ids] + places[: ids.shape[1]]).astype(self.dtype)
        block = remat(ClipBlock, self.remat)(size.heads, causal=True, dtype=self.dtype, name="blocks")
        x, _ = run_blocks(block, size.depth, x, scan=self.scan)
        ends = jnp.argmax(ids if size.end is None else ids == size.end, axis=-1)
        end = jnp.take_along_axis(x, ends[:, None, None], axis=1)[:, 0]
        return dense(size.out, self.dtype, "proj", bias=False)(layer_norm("norm", self.dtype)(end))


class ViClip(nn.Module):
    """Both towers, and what their loss learns: a temperature, and a bias if it is given where to start.

    A vision tower of an `EncoderSize` is an InternVideo2 encoder. It reads clips of `frames` frames, by
    default its own number, one part after the other, as InternVL-C reads frames, and averages what it pools.
    """

    vision_size: VisionSize | EncoderSize
    text_size: TextSize
    temperature: float = 0.01
    bias: float | None = None
    remat: Remat = "none"
    scan: bool = True
    dtype: Any = jnp.float32
    frames: int | None = None

    @property
    def clip_frames(self) -> int:
        """Frames of the clips that it reads."""
        return self.vision_size.frames if self.frames is None else self.frames

    def setup(self) -> None:
        size = self.vision_size
        if isinstance(size, VisionSize):
            tower: Any = VisionTower(size, self.remat, self.scan, self.dtype)
        else:
            tower = Encoder(size, (), self.remat, self.scan, self.dtype)
        self.vision = tower
        self.text = TextTower(self.text_size, self.remat, self.scan, self.dtype)
        constant = nn.initializers.constant
        self.cosine_unit = self.param("temperature", constant(self.temperature), ())
        if self.bias is not None:
            self.logit_bias = self.param("bias", constant(self.bias), ())

    def video(
        self, video: jax.Array, visible: jax.Array | None = None, keep: jax.Array | None = None
    ) -> jax.Array:
        """(B, T, H, W, 3) -> (B, out), not normalised.

        visible (B * parts, 1 + n) and keep (depth, 2, B * parts) are of the tower's parts of the clips.
        """
        if isinstance(self.vision_size, VisionSize):
            return self.vision(video, visible, keep)
        pooled = self.vision(in_parts(video, self.vision_size.frames), visible, keep).pooled
        return mean_over(pooled.reshape(len(video), -1, pooled.shape[-1]), axis=1)

    def tokens(self, video: jax.Array) -> jax.Array:
        """(B, T, H, W, 3) -> the last states of all tokens (B, 1 + N, width), class token first."""
        if isinstance(self.vision_size, VisionSize):
            return self.vision(video, pooled=False)
        tokens = self.vision(in_parts(video, self.vision_size.frames)).tokens
        tokens = tokens.reshape(len(video), -1, *tokens.shape[1:])
        patches = tokens[:, :, 1:].reshape(len(video), -1, tokens.shape[-1])
        return jnp.concatenate([mean_over(tokens[:, :, 0], axis=1)[:, None], patches], axis=1)

    def words(self, ids: jax.Array) -> jax.Array:
        """See TextTower: (B, L) -> (B, out), not normalised."""
        return self.text(ids)

    def __call__(self, video: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Embeddings of whole clips (B, out), of captions (B, out), and the temperature ()."""
        return self.video(video), self.words(ids), self.cosine_unit


def embed_video(
    model: ViClip,
    params: Params,
    video: jax.Array,
    visible: jax.Array | None = None,
    keep: jax.Array | None = None,
) -> jax.Array:
    """`ViClip.video` as a pure function: (B, T, H, W, 3) -> (B, out)."""
    return cast(jax.Array, model.apply({"params": params}, video, visible, keep, method="video"))


def embed_words(model: ViClip, params: Params, ids: jax.Array) -> jax.Array:
    """`ViClip.words` as a pure function: (B, L) -> (B, out)."""
    return cast(jax.Array, model.apply({"params": params}, ids, method="words"))


def init_viclip(model: ViClip, key: jax.Array) -> Params:
    """Fresh float32 parameters as plain nested dicts: `vision`, `text`, `temperature`, `bias` if wanted."""
    size = model.vision_size
    frames = size.tubelet if isinstance(size, VisionSize) else size.frames
    video = jnp.zeros((1, frames, *size.image, 3))
    params = model.init(key, video, jnp.zeros((1, 1), jnp.int32))["params"]
    scaled = _scaled_as_clip if isinstance(size, VisionSize) else with_scaled_residuals
    return params | {"vision": scaled(params["vision"]), "text": _scaled_as_clip(params["text"])}


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
    proj = {"kernel": tower["proj"]["kernel"] * (width**-0.5 / KERNEL_STD)}
    return tower | {"blocks": blocks, "proj": proj}
