"""Sizes of InternViT."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, stated_in
from ivjax.models import costs
from ivjax.models.rules import BLOCKS, PATCH_EMBED
from ivjax.models.sizes import PatchGrid, VideoTowerSize, check_patches, check_width

RULES: Rules = stated_in(
    __name__,
    (
        *PATCH_EMBED,
        *BLOCKS,
        Rule("cls_token", depth="first"),
        Rule("pos_embed", (None, None, "fsdp"), depth="first"),
    ),
)


@dataclass(frozen=True)
class InternVitSize(PatchGrid):
    """Everything that shapes an InternViT. Released sizes: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: attention heads of a block.
        mlp_width: hidden channels of a block's MLP.
        patch: side of a patch.
        image: height and width of a frame.
        frames: frames of a clip. Each is encoded by itself and has a class token.
        table: patches along height and width of the position table (None: those of `image`). A table of
            another grid than the image's is resized in every call.
        norm: LayerNorm with biases, or RMSNorm.
        qkv_bias: whether queries, keys and values have biases.
        qk_norm: whether queries and keys are normalised over their full width, before the split into heads.
        layer_scale: where LayerScale starts.
        gelu: the activation of the MLPs.
        epsilon: of all norms.
    """

    width: Count
    depth: Count
    heads: Count
    mlp_width: Count
    patch: Count = 14
    image: tuple[Count, Count] = (448, 448)
    frames: Count = 1
    table: tuple[Count, Count] | None = None
    norm: Literal["layer", "rms"] = "layer"
    qkv_bias: bool = True
    qk_norm: bool = False
    layer_scale: float = 0.1
    gelu: Literal["erf", "tanh", "quick"] = "erf"
    epsilon: float = 1e-6

    PRESETS: ClassVar[dict[str, "InternVitSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.internvit.tower"

    tubelet: ClassVar[int] = 1  # type: ignore[misc]
    pool_branches: ClassVar[tuple[str, ...]] = ()
    pool_attends: ClassVar[bool] = False
    rules: ClassVar[Rules] = RULES

    @property
    def class_tokens(self) -> int:
        """One for each frame."""
        return self.frames

    @property
    def out(self) -> int:
        """Channels of the pooled feature, the mean of the frames' class tokens."""
        return self.width

    @property
    def table_grid(self) -> tuple[int, int]:
        """Patches along height and width of the position table."""
        return self.table or self.grid[1:]

    def build(self, compute: Compute, taps: tuple[int, ...] = ()) -> Any:
        """Returns the VideoTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, taps)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: a tower has no tower inside."""
        return {}

    def flops(self, patches: int | None = None) -> dict[str, float]:
        """Forward FLOPs per clip on so many visible patches (None: all), by layer."""
        patches = self.patches if patches is None else patches
        # Frames do not see each other, so attention is quadratic in the tokens of one frame alone.
        tokens = 1 + patches // self.frames
        return {
            "patch_embed": costs.patch_embed(self.patch**2, self.width, patches),
            "blocks": self.frames * costs.blocks(self.width, self.depth, self.mlp_width, tokens),
        }

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_patches(name, self)
        check_width(name, self.width, {"heads": self.heads})


_6B = InternVitSize(width=3200, depth=48, heads=25, mlp_width=12800, norm="rms", qkv_bias=False, qk_norm=True)

InternVitSize.PRESETS = {
    "300M": InternVitSize(width=1024, depth=24, heads=16, mlp_width=4096),
    "6B": _6B,
    # InternVL's chat models leave out the last three blocks.
    "6B_45": replace(_6B, depth=45),
}
