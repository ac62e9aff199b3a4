"""Sizes of UniFormerV2."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count, Rate
from ivjax.experiment.rules import Rules
from ivjax.models import costs
from ivjax.models.sizes import PatchGrid, VideoTowerSize, check_patches, check_width
from ivjax.models.uniformerv2.rules import UNIFORMERV2


@dataclass(frozen=True)
class UniFormerV2Size(PatchGrid):
    """Everything that shapes a UniFormerV2. Released sizes: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks, which see one time each.
        heads: attention heads of a block.
        returned: the blocks, ascending, whose tokens a global block reads: one global block for each.
        global_heads: attention heads of a global block.
        global_mlp: hidden channels of a global block's MLP.
        patch: side of a patch.
        image: height and width of a frame; it must be square.
        frames: frames of a clip.
        tubelet: frames of a time. With 2, patches overlap: they are three frames long and two apart.
        local: local modules of a block, which see the times before and after.
        local_width: hidden channels of a local module.
        fused: whether the class tokens of the last block have a learned share in the pooled feature.
        projection: channels of a clip's embedding, by a norm and a projection (None: it is what is pooled).
        dropout: the share that training drops inside the MLPs of the global blocks.
        global_drop_path: rate of the last global block in training.
    """

    width: Count
    depth: Count
    heads: Count
    returned: tuple[int, ...]
    global_heads: Count
    global_mlp: Count
    patch: Count
    image: tuple[Count, Count] = (224, 224)
    frames: Count = 8
    tubelet: Literal[1, 2] = 1
    local: Literal[0, 1, 2] = 0
    local_width: Count = 1
    fused: bool = True
    projection: Count | None = None
    dropout: Rate = 0.5
    global_drop_path: Rate = 0.0

    PRESETS: ClassVar[dict[str, "UniFormerV2Size"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.uniformerv2.tower"

    pool_attends: ClassVar[bool] = False
    rules: ClassVar[Rules] = UNIFORMERV2

    @property
    def class_tokens(self) -> int:
        """A class token for each time."""
        return self.grid[0]

    @property
    def pool_branches(self) -> tuple[str, ...]:
        """The global blocks and what is behind them."""
        fused = ("balance",) if self.fused else ()
        return ("video_token", "globals", *fused, *(("norm_post", "proj") if self.projection else ()))

    @property
    def out(self) -> int:
        """Channels of the pooled feature."""
        return self.projection or self.width

    @property
    def reads_images(self) -> bool:
        """A single frame is an image, unless patches are longer than it."""
        return self.tubelet == 1

    @property
    def takes_keys(self) -> bool:
        """Whether it computes something else in training."""
        return bool(self.dropout or self.global_drop_path or self.local)

    @property
    def running(self) -> tuple[str, ...]:
        """Paths of the running statistics of the local modules."""
        names = [f"blocks/local{n}/norm" for n in range(1, self.local + 1)]
        return tuple(f"{name}/{statistic}" for name in names for statistic in ("mean", "variance"))

    def build(self, compute: Compute, taps: tuple[int, ...] = ()) -> Any:
        """Returns the VideoTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, taps)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: a tower has no tower inside."""
        return {}

    def flops(self, patches: int | None = None) -> dict[str, float]:
        """Forward FLOPs per clip on so many patches (None: all), by layer."""
        patches = self.patches if patches is None else patches
        times, width = max(self.class_tokens * patches // self.patches, 1), self.width
        tokens = times + patches
        length = 1 if self.tubelet == 1 else 3
        inner = times * costs.blocks(width, self.depth, 4 * width, tokens // times)
        local = self.depth * self.local * 2.0 * patches * self.local_width * (2 * width + 3)
        # Keys and values of all tokens, a convolution of 27 taps, and little else for the one query.
        reading = len(self.returned) * (4.0 * tokens * width**2 + 54.0 * patches * width)
        query = len(self.returned) * 4.0 * width * (width + self.global_mlp)
        return {
            "patch_embed": costs.patch_embed(length * self.patch**2, width, patches),
            "blocks": inner + local,
            "pool": reading + query + 2.0 * width * (self.projection or 0),
        }

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_patches(name, self)
        check_width(name, self.width, {"heads": self.heads, "global heads": self.global_heads})
        if self.image[0] != self.image[1]:
            raise UserError(f"stage.{name}.image={self.image}; UniFormerV2 reads square frames")
        ascending = zip((-1, *self.returned), (*self.returned, self.depth), strict=True)
        if not self.returned or any(a >= b for a, b in ascending):
            raise UserError(
                f"stage.{name}.returned={self.returned}; name some of the {self.depth} blocks, ascending"
            )


_B16 = UniFormerV2Size(768, 12, 12, (8, 9, 10, 11), 12, 3072, patch=16)
_L14 = UniFormerV2Size(1024, 24, 16, (20, 21, 22, 23), 16, 4096, patch=14)

UniFormerV2Size.PRESETS = {
    # Kinetics, Moments, ActivityNet, HACS: what is seen tells most, so blocks see single frames.
    "B16": _B16,
    "L14": _L14,
    "L14_336": replace(_L14, image=(336, 336)),
    # Something-Something: local modules, half of the times, and more global blocks.
    "B16_ssv2": replace(_B16, returned=tuple(range(4, 12)), frames=16, tubelet=2, local=2, local_width=512),
    "L14_ssv2": replace(
        _L14,
        returned=tuple(range(8, 24)),
        frames=16,
        tubelet=2,
        local=2,
        local_width=682,
        global_drop_path=0.4,
    ),
}
