"""Sizes of SigLIP's image tower."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models import costs
from ivjax.models.rules import BLOCKS, PATCH_EMBED, linear, norm
from ivjax.models.sizes import PatchGrid, VideoTowerSize, check_patches, check_width

SIGLIP: Rules = stated_in(
    __name__,
    (
        *PATCH_EMBED,
        Rule("pos_embed", (None, "fsdp"), depth="first"),
        *BLOCKS,
        *norm("norm"),
        Rule("head/probe"),
        Rule("head/qkv/kernel", (None, "fsdp", "tensor"), decays=True),
        Rule("head/qkv/bias"),
        *linear("head/proj"),
        *norm("head/norm"),
        *prefixed("head/mlp", (*linear("fc1"), *linear("fc2"))),
    ),
)


@dataclass(frozen=True)
class SiglipSize(PatchGrid):
    """Everything that shapes SigLIP's image tower, both versions. It reads single frames.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: attention heads of a block and of the pooling.
        mlp_width: hidden channels of an MLP.
        patch: side of a patch.
        image: height and width of a frame.
    """

    width: Count
    depth: Count
    heads: Count
    mlp_width: Count
    patch: Count = 16
    image: tuple[Count, Count] = (256, 256)

    PRESETS: ClassVar[dict[str, "SiglipSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.siglip.tower"

    frames: ClassVar[int] = 1  # type: ignore[misc]
    tubelet: ClassVar[int] = 1  # type: ignore[misc]
    class_tokens: ClassVar[int] = 0
    pool_branches: ClassVar[tuple[str, ...]] = ("head",)
    pool_attends: ClassVar[bool] = True
    rules: ClassVar[Rules] = SIGLIP

    @property
    def out(self) -> int:
        """Channels of the pooled feature."""
        return self.width

    def build(self, compute: Compute, taps: tuple[int, ...] = ()) -> Any:
        """Returns the VideoTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, taps)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: a tower has no tower inside."""
        return {}

    def flops(self, patches: int | None = None) -> dict[str, float]:
        """Forward FLOPs per frame on so many visible patches (None: all), by layer."""
        patches = self.patches if patches is None else patches
        mlp = 4.0 * self.width * self.mlp_width
        return {
            "patch_embed": costs.patch_embed(self.patch**2, self.width, patches),
            "blocks": costs.blocks(self.width, self.depth, self.mlp_width, patches),
            "pool": costs.attention_pool(self.width, self.width, patches) + mlp,
        }

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_patches(name, self)
        check_width(name, self.width, {"heads": self.heads})


SiglipSize.PRESETS = {
    "B16_256": SiglipSize(width=768, depth=12, heads=12, mlp_width=3072),
    "L16_256": SiglipSize(width=1024, depth=24, heads=16, mlp_width=4096),
    # InternVideo-Next's teacher, "SigLIP2 1B", and the same of larger frames.
    "giant16_256": SiglipSize(width=1536, depth=40, heads=16, mlp_width=6144),
    "giant16_384": SiglipSize(width=1536, depth=40, heads=16, mlp_width=6144, image=(384, 384)),
}
