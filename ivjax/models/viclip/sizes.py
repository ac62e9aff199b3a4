"""Sizes of ViCLIP's two towers, and the released pairs of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rules
from ivjax.models import costs
from ivjax.models.dual_size import DualSize
from ivjax.models.sizes import PatchGrid, VideoTowerSize, check_patches, check_width
from ivjax.models.viclip.rules import TEXT, VISION

_IMPLEMENTATION = "ivjax.models.viclip.towers"


@dataclass(frozen=True)
class VisionSize(PatchGrid):
    """Everything that shapes the video tower. Released sizes: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: attention heads of a block.
        out: channels of a clip's embedding.
        patch: side of a patch.
        image: height and width of a frame.
        frames: frames of a clip.
        tubelet: frames of a patch, the originals' `kernel_size`.
    """

    width: Count
    depth: Count
    heads: Count
    out: Count
    patch: Count
    image: tuple[Count, Count] = (224, 224)
    frames: Count = 8
    tubelet: Count = 1

    PRESETS: ClassVar[dict[str, "VisionSize"]]

    class_tokens: ClassVar[int] = 1
    pool_branches: ClassVar[tuple[str, ...]] = ("norm_post", "proj")
    pool_attends: ClassVar[bool] = False

    @property
    def reads_images(self) -> bool:
        """A single frame is an image, unless patches are longer than it."""
        return self.tubelet == 1

    @property
    def rules(self) -> Rules:
        """Rules of the tower's parameters."""
        return VISION

    def build(self, compute: Compute, taps: tuple[int, ...] = ()) -> Any:
        """Returns the VideoTower."""
        return late.call(_IMPLEMENTATION, "build_vision", self, compute, taps)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: a tower has no tower inside."""
        return {}

    def flops(self, patches: int | None = None) -> dict[str, float]:
        """Forward FLOPs per clip on so many visible patches (None: all), by layer."""
        patches = self.patches if patches is None else patches
        return {
            "patch_embed": costs.patch_embed(self.tubelet * self.patch**2, self.width, patches),
            "blocks": costs.blocks(self.width, self.depth, 4 * self.width, 1 + patches),
            "pool": 2.0 * self.width * self.out,
        }

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_patches(name, self)
        check_width(name, self.width, {"heads": self.heads})


@dataclass(frozen=True)
class TextSize:
    """Everything that shapes the text tower. Released sizes: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: attention heads of a block.
        out: channels of a text's embedding.
        context: tokens of a text.
        vocabulary: token ids are below it.
        end: id of the end token (None: the largest id of a text, as in CLIP).
    """

    width: Count
    depth: Count
    heads: Count
    out: Count
    # CLIP reads 77 tokens; ViCLIP's captions are cut to 32.
    context: Count = 32
    # CLIP's: 512 bytes, inside and at the end of words, 48,894 merged pairs, and the
    # two tokens of start and end.
    vocabulary: Count = 49408
    end: int | None = None

    PRESETS: ClassVar[dict[str, "TextSize"]]

    grid: ClassVar[None] = None

    @property
    def rules(self) -> Rules:
        """Rules of the tower's parameters."""
        return TEXT

    def build(self, compute: Compute) -> Any:
        """Returns the TextTower."""
        return late.call(_IMPLEMENTATION, "build_text", self, compute)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: there is no video tower inside."""
        return {}

    def flops(self) -> dict[str, float]:
        """Forward FLOPs per text; the causal half of the attention counts as all of it."""
        inner = costs.blocks(self.width, self.depth, 4 * self.width, self.context)
        return {"text": inner + 2.0 * self.width * self.out}

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_width(name, self.width, {"heads": self.heads})


VisionSize.PRESETS = {
    "B16": VisionSize(width=768, depth=12, heads=12, out=512, patch=16),
    "B32": VisionSize(width=768, depth=12, heads=12, out=512, patch=32),
    "L14": VisionSize(width=1024, depth=24, heads=16, out=768, patch=14),
    "L14_336": VisionSize(width=1024, depth=24, heads=16, out=768, patch=14, image=(336, 336)),
}
TextSize.PRESETS = {
    "B": TextSize(width=512, depth=12, heads=8, out=512),
    "L": TextSize(width=768, depth=12, heads=12, out=768),
}
PAIRS = {
    "B16": DualSize(VisionSize.PRESETS["B16"], TextSize.PRESETS["B"]),
    "L14": DualSize(VisionSize.PRESETS["L14"], TextSize.PRESETS["L"]),
}
# CLIP's own texts are longer than ViCLIP's, and it was released in more sizes.
CLIP_PAIRS = {
    name: DualSize(vision, replace(TextSize.PRESETS[name[0]], context=77))
    for name, vision in VisionSize.PRESETS.items()
}
