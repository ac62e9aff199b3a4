"""The mask: patches of a clip that an encoder does not see while it is trained."""

from dataclasses import dataclass
from typing import Literal

from ivjax.errors import UserError
from ivjax.experiment.ranges import Rate
from ivjax.ops.counting import visible_count


@dataclass(frozen=True)
class Mask:
    """A mask of patches that the student does not see. ivjax/stages/masking.py draws it.

    Attributes:
        kind: `attention` tends to keep what the clip teacher looks at; `random` treats every patch
            alike; `tube` hides the same patches in every frame.
        ratio: the share that is hidden.
        per: whether the share is one of every frame or of the whole clip.
    """

    kind: Literal["attention", "random", "tube"] = "attention"
    ratio: Rate = 0.8
    per: Literal["frame", "clip"] = "frame"

    def visible(self, frames: int, patches: int) -> int:
        """Patches that stay visible of `frames` frames of `patches` patches."""
        if self.per == "clip":
            return visible_count(frames * patches, self.ratio)
        return frames * visible_count(patches, self.ratio)

    def check(self) -> None:
        """Raises if the options contradict each other."""
        # An error rather than ignored: a user who sets both expects one of them to have an effect.
        if self.kind == "tube" and self.per == "clip":
            raise UserError(
                "stage.mask.kind=tube hides the same patches of all frames; set stage.mask.per=frame"
            )
