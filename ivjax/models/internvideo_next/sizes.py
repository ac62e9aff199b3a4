"""Sizes of InternVideo-Next: the encoder, and the models that its two stages train."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rules
from ivjax.models import costs
from ivjax.models.internvideo2.sizes import FeatureHeads, PooledHead
from ivjax.models.internvideo_next.rules import DIFFUSION, ENCODER, LATENT, STUDENT
from ivjax.models.modernbert import ModernBertSize
from ivjax.models.sizes import Grid, PatchGrid, check_patches, check_width


@dataclass(frozen=True)
class NextSize(PatchGrid):
    """Everything that shapes an InternVideo-Next encoder's parameters. Released sizes: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: attention heads of a block.
        mlp_width: hidden channels of a block's MLP.
        pool_heads: heads of the attention pooling.
        pool_width: channels of the pooled feature.
        class_tokens: tokens that go before the patches.
        image: height and width of a frame.
        patch: side of a patch.
        frames: frames of a clip.
        table_frames: frames that the position tables are made for; for clips of other numbers they are
            interpolated in time at each step (None: those of a clip).
        tubelet: frames of a patch.
        layer_scale: where LayerScale starts (None: there is none).
        gelu: the GELU of the blocks; `tanh` is that of the originals' fused kernels.
    """

    width: Count
    depth: Count
    heads: Count
    mlp_width: Count
    pool_heads: Count = 16
    pool_width: Count = 768
    class_tokens: Count = 4
    image: tuple[Count, Count] = (224, 224)
    patch: Count = 14
    frames: Count = 16
    table_frames: Count | None = None
    tubelet: Count = 1
    layer_scale: float | None = 1e-5
    gelu: Literal["erf", "tanh", "quick"] = "tanh"

    PRESETS: ClassVar[dict[str, "NextSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.internvideo_next.encoder"

    pool_branches: ClassVar[tuple[str, ...]] = ("clip_projector",)
    pool_attends: ClassVar[bool] = True
    rules: ClassVar[Rules] = ENCODER

    @property
    def out(self) -> int:
        """Channels of the pooled feature."""
        return self.pool_width

    @property
    def table_grid(self) -> Grid:
        """The patch grid that the position tables are made for."""
        frames = self.frames if self.table_frames is None else self.table_frames
        return (frames // self.tubelet, *self.grid[1:])

    def build(self, compute: Compute, taps: tuple[int, ...] = ()) -> Any:
        """Returns the VideoTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, taps)

    def encoders(self) -> "Mapping[str, NextSize]":
        """Returns nothing: a tower has no tower inside."""
        return {}

    def flops(self, patches: int | None = None) -> dict[str, float]:
        """Forward FLOPs per clip on so many visible patches (None: all), by layer."""
        patches = self.patches if patches is None else patches
        tokens = self.class_tokens + patches
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
        if self.table_frames is not None and (self.table_frames < 1 or self.table_frames % self.tubelet):
            raise UserError(
                f"stage.{name}.table_frames={self.table_frames} does not divide into tubelets of "
                f"{self.tubelet}; write none for the clip's own number"
            )


NextSize.PRESETS = {
    "B14": NextSize(width=768, depth=12, heads=12, mlp_width=3072),
    "L14": NextSize(width=1024, depth=24, heads=16, mlp_width=4096),
    "1B": NextSize(width=1408, depth=40, heads=16, mlp_width=6144),
}


@dataclass(frozen=True)
class DiffusionSize:
    """The network that predicts the noise in the pixels of one patch.

    Attributes:
        width: channels of the hidden layers.
        depth: residual blocks.
        time_codes: numbers that a timestep is coded in.
    """

    width: Count = 1536
    depth: Count = 6
    time_codes: Count = 256

    rules: ClassVar[Rules] = DIFFUSION

    def flops(self, pixels: int, condition: int, tokens: int) -> float:
        """Forward FLOPs on so many patches of `pixels` numbers, given conditions of `condition` channels."""
        width = self.width
        ends = width * (pixels + condition + self.time_codes + width) + 2 * width**2 + 2 * width * pixels
        # A block has the modulation, of three times the width, and two square layers.
        return 2.0 * tokens * (ends + 5 * self.depth * width**2)


@dataclass(frozen=True)
class NextStudentSize:
    """What stage 1 trains: the encoder, heads for a teacher's features, a predictor and a pixel decoder.

    Attributes:
        encoder: size of the encoder.
        clip: heads that predict the teacher's layers.
        pooled: head that predicts the teacher's pooled feature.
        predictor: layers between the encoder and the decoder.
        diffusion: the decoder of single patches.
    """

    encoder: NextSize
    clip: FeatureHeads
    pooled: PooledHead
    predictor: ModernBertSize
    diffusion: DiffusionSize = DiffusionSize()

    PRESETS: ClassVar[dict[str, "NextStudentSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.internvideo_next.student"

    rules: ClassVar[Rules] = STUDENT

    @property
    def grid(self) -> Grid:
        """The grid of the position tables."""
        return self.encoder.table_grid

    def build(self, compute: Compute) -> Any:
        """Returns the student."""
        return late.call(self.IMPLEMENTATION, "build_student", self, compute)

    def encoders(self) -> Mapping[str, NextSize]:
        """Returns the encoder, which can stand alone."""
        return {"encoder": self.encoder}

    def branches(self) -> Mapping[str, Any]:
        """Returns the predictor, which a file of ModernBERT fills."""
        return {"predictor": self.predictor}

    def trains_pooling(self) -> bool:
        """True: a head predicts a pooled feature from it."""
        return True

    def flops(self, patches: int) -> dict[str, float]:
        """Forward FLOPs per clip on so many visible patches, by layer."""
        size = self.encoder
        pixels = 3 * size.tubelet * size.patch**2
        heads = self.clip.flops(size.width, patches) + self.pooled.flops(size.pool_width)
        hidden = size.patches - patches
        return size.flops(patches) | {
            "decoders": heads,
            "predictor": _predictor_flops(size, self.predictor),
            "diffusion": self.diffusion.flops(pixels, self.predictor.width, hidden),
        }


@dataclass(frozen=True)
class LatentPredictorSize:
    """What stage 2 trains: the encoder, a predictor and a head for features of the encoder of stage 1.

    Attributes:
        encoder: size of the encoder.
        predictor: layers between the encoder and the head.
    """

    encoder: NextSize
    predictor: ModernBertSize

    PRESETS: ClassVar[dict[str, "LatentPredictorSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.internvideo_next.student"

    rules: ClassVar[Rules] = LATENT

    @property
    def grid(self) -> Grid:
        """The grid of the position tables."""
        return self.encoder.table_grid

    def build(self, compute: Compute) -> Any:
        """Returns the model."""
        return late.call(self.IMPLEMENTATION, "build_latent", self, compute)

    def encoders(self) -> Mapping[str, NextSize]:
        """Returns the encoder, which can stand alone."""
        return {"encoder": self.encoder}

    def branches(self) -> Mapping[str, Any]:
        """Returns the predictor, which a file of ModernBERT fills."""
        return {"predictor": self.predictor}

    def trains_pooling(self) -> bool:
        """False: no loss reads what the encoder pools."""
        return False

    def flops(self, patches: int) -> dict[str, float]:
        """Forward FLOPs per clip on so many visible patches, by layer."""
        size, width = self.encoder, self.predictor.width
        head = 2.0 * size.patches * width * (width + size.width)
        predictor = _predictor_flops(size, self.predictor)
        return size.flops(patches) | {"predictor": predictor, "decoders": head}


def _predictor_flops(size: NextSize, predictor: ModernBertSize) -> float:
    tokens = size.class_tokens + size.patches
    enter = 2.0 * tokens * size.width * (size.width + predictor.width)
    return enter + predictor.flops(tokens)


_PREDICTOR = ModernBertSize.PRESETS["large_last5"]
# 1536 are the channels of SigLIP2-1B, of whose 40 layers six are predicted.
_HEADS = FeatureHeads(1536, 6, head="mlp"), PooledHead(1536, head="mlp")

NextStudentSize.PRESETS = {
    name: NextStudentSize(size, *_HEADS, _PREDICTOR) for name, size in NextSize.PRESETS.items()
}
LatentPredictorSize.PRESETS = {
    name: LatentPredictorSize(size, _PREDICTOR) for name, size in NextSize.PRESETS.items()
}
