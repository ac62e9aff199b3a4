"""Sizes of InternVideo2: the encoder, and the stage-1 student that has heads on top of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rules
from ivjax.models import costs
from ivjax.models.internvideo2.rules import ENCODER, STUDENT
from ivjax.models.sizes import Grid, PatchGrid, check_patches, check_width, tapped_layers

Norm = Literal["l2", "none"]
Head = Literal["linear", "mlp"]


@dataclass(frozen=True)
class EncoderSize(PatchGrid):
    """Everything that shapes an InternVideo2 encoder's parameters. Released sizes: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: attention heads of a block.
        mlp_width: hidden channels of a block's MLP.
        pool_heads: heads of the attention pooling.
        pool_width: channels of the pooled feature.
        image: height and width of a frame.
        patch: side of a patch.
        frames: frames of a clip.
        tubelet: frames of a patch.
        positions: one table of the whole grid, or one of space and one of time that are summed.
        layer_scale: where LayerScale starts (None: there is none).
        gelu: the GELU of the blocks; `tanh` is that of the originals' fused kernels.
    """

    width: Count
    depth: Count
    heads: Count
    mlp_width: Count
    pool_heads: Count = 16
    pool_width: Count = 768
    image: tuple[Count, Count] = (224, 224)
    patch: Count = 14
    frames: Count = 8
    tubelet: Count = 1
    positions: Literal["joint", "separable"] = "joint"
    layer_scale: float | None = 1e-5
    gelu: Literal["erf", "tanh", "quick"] = "tanh"

    PRESETS: ClassVar[dict[str, "EncoderSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.internvideo2.encoder"

    class_tokens: ClassVar[int] = 1
    pool_branches: ClassVar[tuple[str, ...]] = ("clip_projector",)
    pool_attends: ClassVar[bool] = True

    @property
    def out(self) -> int:
        """Channels of the pooled feature."""
        return self.pool_width

    @property
    def rules(self) -> Rules:
        """Rules of the encoder's parameters."""
        return ENCODER

    def build(self, compute: Compute, taps: tuple[int, ...] = ()) -> Any:
        """Returns the VideoTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, taps)

    def encoders(self) -> "Mapping[str, EncoderSize]":
        """Returns nothing: a tower has no tower inside."""
        return {}

    def flops(self, patches: int | None = None) -> dict[str, float]:
        """Forward FLOPs per clip on so many visible patches (None: all), by layer."""
        patches = self.patches if patches is None else patches
        tokens = 1 + patches
        return {
            "patch_embed": costs.patch_embed(self.tubelet * self.patch**2, self.width, patches),
            "blocks": costs.blocks(self.width, self.depth, self.mlp_width, tokens),
            "pool": costs.attention_pool(self.width, self.pool_width, tokens),
        }

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_patches(name, self)
        # 16: see positions.sincos_3d, which starts the position tables.
        divisors = {"heads": self.heads, "pool_heads": self.pool_heads, "position codes": 16}
        check_width(name, self.width, divisors)


EncoderSize.PRESETS = {
    "S14": EncoderSize(width=384, depth=12, heads=6, mlp_width=1536),
    "B14": EncoderSize(width=768, depth=12, heads=12, mlp_width=3072),
    "L14": EncoderSize(width=1024, depth=24, heads=16, mlp_width=4096),
    # The MLP of 1B is int(1408 * 48 / 11) wide, as in ViT-g.
    "1B": EncoderSize(width=1408, depth=40, heads=16, mlp_width=6144),
    "6B": EncoderSize(width=3200, depth=48, heads=25, mlp_width=12800),
    # InternVL-C's image tower, which reads frame by frame.
    "internvl_c": EncoderSize(width=3200, depth=48, heads=25, mlp_width=12800, frames=1, layer_scale=0.1),
}


@dataclass(frozen=True)
class UnpooledSize(PatchGrid):
    """Everything that shapes an InternVideo2 encoder whose tokens a language model reads. It pools nothing.

    Attributes:
        width: channels of a token.
        depth: blocks. Chat models read the output of the block before the last, and leave that one out.
        heads: attention heads of a block.
        mlp_width: hidden channels of a block's MLP.
        image: height and width of a frame.
        patch: side of a patch.
        frames: frames of a clip.
        tubelet: frames of a patch.
        image_table: whether a single frame is an image, with a position table of its own.
        layer_scale: where LayerScale starts (None: there is none).
        gelu: the GELU of the blocks; the chat models' code asks for the exact one.
    """

    width: Count
    depth: Count
    heads: Count
    mlp_width: Count
    image: tuple[Count, Count] = (224, 224)
    patch: Count = 14
    frames: Count = 8
    tubelet: Count = 1
    image_table: bool = True
    layer_scale: float | None = 1e-5
    gelu: Literal["erf", "tanh", "quick"] = "erf"

    PRESETS: ClassVar[dict[str, "UnpooledSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.internvideo2.unpooled"

    class_tokens: ClassVar[int] = 1
    pool_branches: ClassVar[tuple[str, ...]] = ()
    pool_attends: ClassVar[bool] = False
    out: ClassVar[None] = None
    rules: ClassVar[Rules] = ENCODER

    @property
    def reads_images(self) -> bool:
        """Whether a single frame is a clip too."""
        return self.image_table or self.frames == 1

    def build(self, compute: Compute, taps: tuple[int, ...] = ()) -> Any:
        """Returns the VideoTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, taps)

    def encoders(self) -> "Mapping[str, EncoderSize]":
        """Returns nothing: a tower has no tower inside."""
        return {}

    def flops(self, patches: int | None = None) -> dict[str, float]:
        """Forward FLOPs per clip on so many visible patches (None: all), by layer."""
        patches = self.patches if patches is None else patches
        return {
            "patch_embed": costs.patch_embed(self.tubelet * self.patch**2, self.width, patches),
            "blocks": costs.blocks(self.width, self.depth, self.mlp_width, 1 + patches),
        }

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_patches(name, self)
        # 16: see positions.sincos_3d, which starts the position tables.
        check_width(name, self.width, {"heads": self.heads, "position codes": 16})


UnpooledSize.PRESETS = {
    "1B_chat_f8": UnpooledSize(width=1408, depth=39, heads=16, mlp_width=6144),
    "1B_chat_f4": UnpooledSize(width=1408, depth=39, heads=16, mlp_width=6144, frames=4),
}

# The video encoders in stage 2's files, which read 4 frames.
STAGE2_ENCODERS = {name: replace(EncoderSize.PRESETS[name], frames=4) for name in ("1B", "6B")}


@dataclass(frozen=True)
class FeatureHeads:
    """Heads that predict layers of a teacher, one head per tapped layer of the student.

    Attributes:
        width: channels of the teacher.
        layers: how many of the teacher's layers are predicted.
        interval: the student's tapped layers are the last one and back by it.
        head: kind of each head.
        norm: how predictions are normalised.
        chosen: the tapped layers, ascending, in place of `interval`.
    """

    width: Count
    layers: Count
    interval: float = 1.0
    head: Head = "linear"
    norm: Norm = "l2"
    chosen: tuple[int, ...] | None = None

    def taps(self, depth: int) -> tuple[int, ...]:
        """Student layers that feed the heads, ascending."""
        return tapped_layers(depth, self.layers, self.interval, self.chosen)

    def flops(self, width: int, tokens: int) -> float:
        """Forward FLOPs on `tokens` tokens of `width` channels."""
        return self.layers * tokens * _head_flops(self.head, width, self.width)


@dataclass(frozen=True)
class PooledHead:
    """Head that predicts a teacher's pooled feature.

    Attributes:
        width: channels of the teacher's pooled feature.
        head: kind of the head.
        norm: how predictions are normalised.
    """

    width: Count
    head: Head = "linear"
    norm: Norm = "l2"

    def flops(self, width: int) -> float:
        """Forward FLOPs on a pooled feature of `width` channels."""
        return _head_flops(self.head, width, self.width)


def _head_flops(head: Head, width: int, out: int) -> float:
    return 2.0 * width * (out + (width if head == "mlp" else 0))


@dataclass(frozen=True)
class StudentSize:
    """The stage-1 student: an encoder, and the heads that predict its teachers' features.

    Attributes:
        encoder: size of the encoder.
        clip: heads that predict the clip teacher's layers (None: none).
        pooled: head that predicts the clip teacher's pooled feature (None: none).
        mae: heads that predict the pixel teacher's layers (None: none).
    """

    encoder: EncoderSize
    clip: FeatureHeads | None
    pooled: PooledHead | None
    mae: FeatureHeads | None = None

    PRESETS: ClassVar[dict[str, "StudentSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.internvideo2.student"

    @property
    def grid(self) -> Grid:
        """The encoder's patch grid."""
        return self.encoder.grid

    @property
    def rules(self) -> Rules:
        """Rules of the student's parameters."""
        return STUDENT

    def build(self, compute: Compute) -> Any:
        """Returns the student."""
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def encoders(self) -> Mapping[str, EncoderSize]:
        """Returns the encoder, which can stand alone."""
        return {"encoder": self.encoder}

    def trains_pooling(self) -> bool:
        """Whether there is a head for the pooled feature: without one it takes no part in the loss."""
        return self.pooled is not None

    def flops(self, patches: int) -> dict[str, float]:
        """Forward FLOPs per clip on so many visible patches, by layer."""
        size, tokens = self.encoder, 1 + patches
        heads = 0.0
        if self.clip:
            heads += self.clip.flops(size.width, tokens)
        if self.mae:
            heads += self.mae.flops(size.width, patches)
        if self.pooled:
            heads += self.pooled.flops(size.pool_width)
        return size.flops(patches) | {"decoders": heads}


# Widths are those of the teachers: 3200 and 768 InternVL-C's tokens and pooled feature, 1408 VideoMAE-g's
# tokens in pretraining and those of InternVideo2-1B in distillation.
_PRETRAINED = FeatureHeads(3200, 6), PooledHead(768), FeatureHeads(1408, 4, head="mlp")
_DISTILLED = FeatureHeads(1408, 6, head="mlp"), PooledHead(768, head="mlp")

StudentSize.PRESETS = {
    **{name: StudentSize(EncoderSize.PRESETS[name], *_PRETRAINED) for name in ("1B", "6B")},
    **{name: StudentSize(EncoderSize.PRESETS[name], *_DISTILLED) for name in ("S14", "B14", "L14")},
}
