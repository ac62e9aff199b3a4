"""Sizes of VideoMAE: the encoder, the pixel decoder, and both together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rules
from ivjax.models import costs
from ivjax.models.sizes import Grid, PatchGrid, VideoTowerSize, check_patches, check_width
from ivjax.models.videomae.rules import AUTOENCODER, ENCODER

AttentionKind = Literal["standard", "cosine", "released_head_axis"]


@dataclass(frozen=True)
class VideoMaeSize(PatchGrid):
    """Everything that shapes a VideoMAE encoder. Released sizes: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: attention heads of a block.
        mlp_width: hidden channels of a block's MLP.
        patch: side of a patch.
        image: height and width of a frame.
        frames: frames of a clip.
        tubelet: frames of a patch.
        layer_scale: where LayerScale starts (None: there is none).
        positions: `learned` makes the position table a parameter, as in files whose grid is not the released
            one.
        attention: `cosine` compares directions, under a learned factor for each head; `released_head_axis` is
            the arithmetic of the originals' teacher code, which attends over the heads of each token instead
            of over the tokens of each head.
        final_norm: whether tokens are normalised after the last block; false in classifiers, which normalise
            the mean of the tokens.
    """

    width: Count
    depth: Count
    heads: Count
    mlp_width: Count
    patch: Count = 16
    image: tuple[Count, Count] = (224, 224)
    frames: Count = 16
    tubelet: Count = 2
    layer_scale: float | None = None
    positions: Literal["fixed", "learned"] = "fixed"
    attention: AttentionKind = "standard"
    final_norm: bool = True

    PRESETS: ClassVar[dict[str, "VideoMaeSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.videomae.encoder"

    class_tokens: ClassVar[int] = 0
    pool_branches: ClassVar[tuple[str, ...]] = ()
    pool_attends: ClassVar[bool] = False
    out: ClassVar[int | None] = None

    @property
    def rules(self) -> Rules:
        """Rules of the encoder's parameters."""
        return ENCODER

    def build(self, compute: Compute, taps: tuple[int, ...] = ()) -> Any:
        """Returns the VideoTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, taps)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: a tower has no tower inside."""
        return {}

    def flops(self, patches: int | None = None) -> dict[str, float]:
        """Forward FLOPs per clip on so many visible patches (None: all), by layer."""
        patches = self.patches if patches is None else patches
        return {
            "patch_embed": costs.patch_embed(self.tubelet * self.patch**2, self.width, patches),
            "blocks": costs.blocks(self.width, self.depth, self.mlp_width, patches),
        }

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_patches(name, self)
        check_width(name, self.width, {"heads": self.heads})


VideoMaeSize.PRESETS = {
    "S16": VideoMaeSize(width=384, depth=12, heads=6, mlp_width=1536),
    "B16": VideoMaeSize(width=768, depth=12, heads=12, mlp_width=3072),
    "L16": VideoMaeSize(width=1024, depth=24, heads=16, mlp_width=4096),
    "H16": VideoMaeSize(width=1280, depth=32, heads=16, mlp_width=5120),
    "g14": VideoMaeSize(width=1408, depth=40, heads=16, mlp_width=6144, patch=14),
}


@dataclass(frozen=True)
class DecoderSize:
    """The decoder's blocks; it shares the rest with the encoder. Released sizes: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: attention heads of a block.
        mlp_width: hidden channels of a block's MLP.
    """

    width: Count
    depth: Count
    heads: Count
    mlp_width: Count

    PRESETS: ClassVar[dict[str, "DecoderSize"]]


# 2234 is int(512 * 48 / 11): the originals give g's decoder the MLP ratio of its encoder.
DecoderSize.PRESETS = {
    "B16": DecoderSize(width=384, depth=4, heads=6, mlp_width=1536),
    "L16": DecoderSize(width=512, depth=12, heads=8, mlp_width=2048),
    "H16": DecoderSize(width=512, depth=8, heads=8, mlp_width=2048),
    "g14": DecoderSize(width=512, depth=4, heads=8, mlp_width=2234),
}


@dataclass(frozen=True)
class AutoencoderSize:
    """The encoder and the decoder of the pre-training model.

    Attributes:
        encoder: size of the encoder.
        decoder: size of the decoder.
    """

    encoder: VideoMaeSize
    decoder: DecoderSize

    PRESETS: ClassVar[dict[str, "AutoencoderSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.videomae.autoencoder"

    @property
    def grid(self) -> Grid:
        """The encoder's patch grid."""
        return self.encoder.grid

    @property
    def rules(self) -> Rules:
        """Rules of the model's parameters."""
        return AUTOENCODER

    def build(self, compute: Compute) -> Any:
        """Returns the autoencoder."""
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def encoders(self) -> Mapping[str, VideoMaeSize]:
        """Returns the encoder, which can stand alone."""
        return {"encoder": self.encoder}

    def trains_pooling(self) -> bool:
        """False: the encoder pools nothing."""
        return False

    def flops(self, seen: int, decoded: int) -> dict[str, float]:
        """Forward FLOPs per clip of which `seen` patches are seen and `decoded` predicted, by layer."""
        size, decoder = self.encoder, self.decoder
        bridge = 2.0 * seen * size.width * decoder.width
        head = costs.patch_embed(size.tubelet * size.patch**2, decoder.width, decoded)
        inner = costs.blocks(decoder.width, decoder.depth, decoder.mlp_width, seen + decoded)
        return size.flops(seen) | {"decoder": bridge + inner + head}


AutoencoderSize.PRESETS = {
    name: AutoencoderSize(VideoMaeSize.PRESETS[name], decoder)
    for name, decoder in DecoderSize.PRESETS.items()
}
