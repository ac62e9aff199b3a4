"""InternVideo-Next, stage 2: what the encoder of stage 1 sees is predicted where blocks hide a clip."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count, Rate, Share
from ivjax.experiment.rules import Rules, prefixed
from ivjax.models.costs import with_backward
from ivjax.models.internvideo_next import LatentPredictorSize, NextSize
from ivjax.models.modernbert import ModernBertSize

if TYPE_CHECKING:
    from ivjax.stages.objective import Objective


@dataclass(frozen=True)
class BlockMask:
    """Boxes of a clip's patches that are hidden; all boxes of a clip have one shape.

    Attributes:
        blocks: how many boxes.
        scale: least and largest share of a frame that a box covers.
        aspect: least and largest ratio of a box's height to its width.
        duration: least and largest share of the times that it lasts.
    """

    blocks: Count
    scale: tuple[float, float]
    aspect: tuple[float, float] = (0.75, 1.5)
    duration: tuple[float, float] = (1.0, 1.0)

    def check(self, name: str, size: NextSize) -> None:
        """Raises if no clip of a size can be masked so."""
        for option, most in (("scale", 1.0), ("duration", 1.0), ("aspect", float("inf"))):
            low, high = getattr(self, option)
            if not 0.0 < low <= high <= most:
                raise UserError(
                    f"stage.{name}.{option}=({low}, {high}); give the least and the largest, above 0"
                    + (f" and at most {most:g}" if most == 1.0 else "")
                )
        _, rows, columns = size.grid
        area = rows * columns * self.scale[1]
        # The box that comes nearest to the frame: if it covers all of it, nothing is left to see.
        aspect = min(max(rows / columns, self.aspect[0]), self.aspect[1])
        whole = round((area * aspect) ** 0.5) >= rows and round((area / aspect) ** 0.5) >= columns
        if whole and self.duration[1] == 1.0:
            raise UserError(f"stage.{name}.scale={self.scale} hides whole clips; lower it")


@dataclass(frozen=True)
class LatentPrediction:
    """The stage.

    Attributes:
        encoder: size of the encoder that is trained, and of its target.
        predictor: layers between the encoder and the head.
        masks: the clip is hidden in each of these ways, and predicted each time.
        most: patches of a clip that are seen at most: the first ones, so that late frames are hidden.
        equal_counts: whether all clips of a batch see as many patches as the one that has the fewest, as in
            the originals, whose batches are rectangular; the clips of a batch then depend on each other.
        drop_path: the rate of the encoder's last block.
        target_drop_path: the same of the target; the originals' is that of the encoder, by oversight.
        momentum: share that the target keeps of itself at each step; 1 freezes it.
    """

    encoder: NextSize
    predictor: ModernBertSize = ModernBertSize.PRESETS["large_last5"]
    masks: tuple[BlockMask, ...] = (BlockMask(8, (0.15, 0.15)), BlockMask(2, (0.7, 0.7)))
    # The originals' 400 for each 8 frames, of 32.
    most: Count = 1600
    equal_counts: bool = False
    drop_path: Rate = 0.1
    target_drop_path: Rate = 0.0
    momentum: Share = 1.0

    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.internvideo_next.latent_prediction_loss"

    @property
    def size(self) -> LatentPredictorSize:
        """The size of the model that is trained."""
        return LatentPredictorSize(self.encoder, self.predictor)

    def build(self, compute: Compute) -> "Objective":
        """Returns the stage's parameters, loss and batch."""
        self.check()
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def model(self, compute: Compute) -> Any:
        """Returns the encoder with its predictor."""
        return self.size.build(compute)

    def encoders(self) -> Mapping[str, Any]:
        """Returns the encoder and its target, which can stand alone."""
        return {"encoder": self.encoder, "target": self.encoder}

    @property
    def rules(self) -> Rules:
        """Rules of the parameters of the model and of the target."""
        return (*self.size.rules, *prefixed("target", self.encoder.rules))

    def flops(self) -> dict[str, float]:
        """FLOPs of training per clip, by layer."""
        student = {name: len(self.masks) * cost for name, cost in self.size.flops(self.most).items()}
        return with_backward(student) | {"target": sum(self.encoder.flops().values())}

    def check(self) -> None:
        """Raises if the options do not fit each other."""
        size = self.encoder
        size.check("encoder")
        self.predictor.check("predictor")
        if not self.masks:
            raise UserError("stage.masks is empty; give at least one BlockMask")
        for number, mask in enumerate(self.masks):
            mask.check(f"masks.{number}", size)
        if self.most > size.patches:
            raise UserError(f"stage.most={self.most}; it must be at most {size.patches}, all patches")
