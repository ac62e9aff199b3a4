"""The size of the projector: joining and merging of tokens, and an MLP on what is left."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rules, stated_in
from ivjax.models.rules import linear, norm
from ivjax.models.sizes import Grid, VideoTowerSize, check_width

RULES: Rules = stated_in(__name__, (*norm("input_norm"), *norm("norm"), *linear("mlp/fc[12]")))


@dataclass(frozen=True)
class ProjectorSize:
    """Everything that shapes a projector: neighbours are joined, a clip's tokens merged, and an MLP follows.

    Attributes:
        width: channels of the tower's tokens.
        out: channels of the language model's tokens.
        frame_tokens: visual tokens of a frame of a video (None: nothing is merged).
        image_tokens: visual tokens of a still image (None: nothing is merged).
        clip_frames: frames whose tokens are merged together (None: all those of a video).
        heads: tokens are compared by the mean of so many equal parts of their channels.
        shuffle: side of the squares of patches that are joined to one token before (1: none are).
        shuffle_version: the order of the joined tokens; see ops/pixel_shuffle.py.
        input_norm: whether the tower's tokens are normalised first, for towers without a final norm.
        norm: whether the MLP begins with a LayerNorm.
    """

    width: Count
    out: Count
    frame_tokens: Count | None = 16
    image_tokens: Count | None = 64
    clip_frames: Count | None = 4
    heads: Count = 16
    shuffle: Count = 1
    shuffle_version: Literal["v1", "v2"] = "v2"
    input_norm: bool = False
    norm: bool = False

    IMPLEMENTATION: ClassVar[str] = "ivjax.models.dialogue.projector"

    grid: ClassVar[None] = None
    rules: ClassVar[Rules] = RULES

    @property
    def joined(self) -> int:
        """Channels of a token when its neighbours are joined to it."""
        return self.width * self.shuffle**2

    def build(self, compute: Compute) -> Any:
        """Returns the Bridge."""
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def tokens(self, frames: int, grid: Grid) -> int:
        """Visual tokens that a video of so many frames becomes; raises if it has no whole clips."""
        kept = self.kept(frames)
        if kept is None:
            return frames * self._frame(grid)
        self.clips(frames)
        return frames * kept

    def unmerged(self) -> "ProjectorSize | None":
        """Returns the size without merging, which has no parameters; None if this one merges nothing."""
        return None if self.frame_tokens is None else replace(self, frame_tokens=None, image_tokens=None)

    def kept(self, frames: int) -> int | None:
        """Visual tokens of each of so many frames; None if nothing is merged."""
        return self.image_tokens if frames == 1 else self.frame_tokens

    def joined_frames(self, frames: int, segment: int) -> int:
        """The frames of whole segments and clips; see BridgeSize.joined_frames."""
        if frames == 1 or (self.frame_tokens is not None and self.clip_frames is None):
            return frames
        least = math.lcm(segment, 1 if self.frame_tokens is None else self.clip_frames or 1)
        if least > 1:
            return least
        # A single frame would be taken for a still image.
        return frames if frames % 2 else 2

    def clips(self, frames: int) -> int:
        """The clips that a video of so many frames is cut into."""
        if frames == 1 or self.clip_frames is None:
            return 1
        if frames % self.clip_frames:
            fewer = frames - frames % self.clip_frames
            raise UserError(
                f"a video of {frames} frames does not divide into clips of {self.clip_frames}; "
                f"take {fewer or self.clip_frames} frames or {fewer + self.clip_frames}"
            )
        return frames // self.clip_frames

    def flops(self, frames: int, grid: Grid) -> float:
        """Forward FLOPs per video of so many frames: the scores of merging, and the MLP."""
        tokens, merged = self.tokens(frames, grid), 0.0
        if self.kept(frames) is not None:
            clips = self.clips(frames)
            # Each further step compares half as many tokens, so all together are 4/3 of the first.
            pairs = (frames * self._frame(grid) / clips) ** 2 / 4
            merged = clips * 4 / 3 * 2 * pairs * self.joined / self.heads
        return merged + 2.0 * tokens * self.out * (self.joined + self.out)

    def check(self, name: str, vision: VideoTowerSize) -> None:
        """Raises if the bridge at `stage.<name>` cannot stand behind the tower."""
        if self.width != vision.width:
            raise UserError(
                f"stage.{name}.width={self.width}, but the tower's tokens have {vision.width} channels; "
                "make them equal"
            )
        for what, given in (
            ("heads", self.heads),
            ("shuffle", self.shuffle),
            ("clip_frames", self.clip_frames),
        ):
            if given is not None and given < 1:
                raise UserError(f"stage.{name}.{what}={given} must be 1 or more")
        _, rows, columns = vision.grid
        if rows % self.shuffle or columns % self.shuffle:
            raise UserError(
                f"stage.{name}.shuffle={self.shuffle} does not divide the tower's {rows} x {columns} "
                "patches; change it, or the tower's image"
            )
        check_width(name, self.joined, {"heads": self.heads})
        most = self._frame(vision.grid)
        for what, kept in (("frame_tokens", self.frame_tokens), ("image_tokens", self.image_tokens)):
            if kept is not None and not 1 <= kept <= most:
                raise UserError(
                    f"stage.{name}.{what}={kept}, and a frame has {most} tokens; choose 1 to {most}"
                )

    def _frame(self, grid: Grid) -> int:
        """Tokens of a frame before merging."""
        return (grid[1] // self.shuffle) * (grid[2] // self.shuffle)
