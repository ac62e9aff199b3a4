"""The size of a pair of towers: any video tower beside any text tower."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models.sizes import Grid, TextTowerSize, VideoTowerSize

# What the contrastive loss learns beside the towers.
SCALE: Rules = stated_in(__name__, (Rule("temperature"), Rule("bias")))


@dataclass(frozen=True)
class DualSize:
    """The size of a pair of towers that embed clips and texts in one space.

    Attributes:
        vision: size of the video tower, which must pool.
        text: size of the text tower, of the same `out`.
        frames: frames of the clips, a multiple of those of the video tower, which then reads them segment by
            segment (None: its own number).
    """

    vision: VideoTowerSize
    text: TextTowerSize
    frames: Count | None = None

    IMPLEMENTATION: ClassVar[str] = "ivjax.models.dual_tower"

    @property
    def clip_frames(self) -> int:
        """Frames of the clips that it reads."""
        return self.vision.frames if self.frames is None else self.frames

    @property
    def grid(self) -> Grid:
        """The video tower's patch grid."""
        return self.vision.grid

    @property
    def rules(self) -> Rules:
        """Rules of both towers' parameters, and of the scale between them."""
        return (*SCALE, *prefixed("vision", self.vision.rules), *prefixed("text", self.text.rules))

    def build(self, compute: Compute, temperature: float = 0.01, bias: float | None = None) -> Any:
        """Returns the DualTower; fresh parameters start with this temperature, and with a bias if given."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, temperature, bias)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns the video tower, which can stand alone."""
        return {"vision": self.vision}

    def branches(self) -> Mapping[str, Any]:
        """Returns the sizes of what a weight file may fill beside the video tower."""
        return {"text": self.text}

    def trains_pooling(self) -> bool:
        """True: the loss compares pooled features."""
        return True

    def segments(self, frames: int) -> int:
        """Returns the number of segments of the video tower's own length in a clip of `frames` frames."""
        return max(frames // self.vision.frames, 1)

    def check(self) -> None:
        """Raises if the towers do not go together."""
        vision, text = self.vision, self.text
        vision.check("vision")
        text.check("text")
        if vision.out is None:
            raise UserError("stage.vision pools nothing, so clips have no embedding; choose another tower")
        if vision.out != text.out:
            raise UserError(
                f"stage.vision.out={vision.out} and stage.text.out={text.out} differ; make them equal"
            )
        # Strict, because frames that are left over would be dropped in silence.
        if self.clip_frames % vision.frames:
            raise UserError(
                f"stage.frames={self.frames} cannot be read {vision.frames} at a time; leave it out, or make "
                "it a multiple of stage.vision.frames"
            )
