"""Sizes of UMT's vision encoder."""

from dataclasses import dataclass
from typing import ClassVar

from ivjax.experiment.ranges import Count
from ivjax.models.sizes import Grid
from ivjax.models.videomae import VideoMaeSize


@dataclass(frozen=True)
class UmtSize(VideoMaeSize):
    """Everything that shapes a UMT encoder: VideoMAE's size with other defaults, and the table's grid.

    Attributes:
        frames: frames of a clip. A single frame is a clip too.
        tubelet: frames of a patch.
        final_norm: whether tokens are normalised after the last block; chat models do that in their bridge.
        table: the grid that the fixed position table is made for; other grids have it resized.
    """

    frames: Count = 4
    tubelet: Count = 1
    final_norm: bool = False
    table: Grid = (4, 14, 14)

    PRESETS: ClassVar[dict[str, "UmtSize"]]  # type: ignore[assignment]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.umt.tower"

    @property
    def reads_images(self) -> bool:
        """True: a single frame has the places of the table's first."""
        return True


UmtSize.PRESETS = {
    # Chat models read the output of the block before the last, which they leave out.
    "L16_chat": UmtSize(width=1024, depth=23, heads=16, mlp_width=4096),
    "L16_chat_448": UmtSize(width=1024, depth=23, heads=16, mlp_width=4096, image=(448, 448)),
    "L16": UmtSize(width=1024, depth=24, heads=16, mlp_width=4096, final_norm=True),
}
