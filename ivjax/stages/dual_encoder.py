"""Contrast: clips and their captions meet in one space, told apart from all others of the batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count, Positive, Rate, Signed, Within
from ivjax.models.dual_size import DualSize
from ivjax.models.sizes import TextTowerSize, VideoTowerSize

if TYPE_CHECKING:
    from ivjax.stages.objective import Objective


@dataclass(frozen=True)
class Contrast:
    """The comparison of embeddings. Rows of one clip are positives of each other.

    Attributes:
        kind: the loss.
        form: how its logits are spread over the devices (ivjax/ops/contrastive.py).
        temperature: logits are cosines over it; it is learned, and this is where it starts.
        least: the least temperature.
        most: the largest temperature.
        bias: where the learned bias of the sigmoid loss starts.
        gather_scale: multiplies the gradient of the embeddings; 1 / processes is what the originals' gather
            amounts to.
    """

    kind: Literal["info_nce", "sigmoid"] = "info_nce"
    form: Literal["dense", "gathered", "ring"] = "gathered"
    # ViCLIP's values: it starts at its lower bound and has no upper one.
    temperature: Positive = 0.01
    least: float = 0.01
    most: Annotated[float, Within(0, above=True)] = float("inf")
    # SigLIP's start: most pairs of a batch are negatives, and so begin nearly right.
    bias: Signed = -10.0
    gather_scale: float = 1.0

    def check(self) -> None:
        """Raises if the temperature at `stage.contrast` cannot start where it should."""
        if not 0.0 < self.least <= self.temperature <= self.most:
            raise UserError(
                f"stage.contrast.temperature={self.temperature} lies outside [{self.least}, {self.most}], or "
                "these are not above 0"
            )


@dataclass(frozen=True)
class DualEncoder:
    """The stage: any video tower beside any text tower.

    Attributes:
        vision: size of the video tower.
        text: size of the text tower.
        frames: frames of the clips; the video tower reads them in segments of its own length (None: one).
        contrast: how embeddings are compared.
        mask: the share of the patches that is not seen in training.
        drop_path: the rate of the video tower's last block.
        train_text: whether the text tower is trained; as in the originals it is frozen by default, and comes
            from `init_from`.
        caption_field: name of the field that gives the captions; their tokenizer is the model's.
    """

    vision: VideoTowerSize
    text: TextTowerSize
    frames: Count | None = None
    contrast: Contrast = Contrast()
    # ViCLIP's recipe: 0.9 of the patches are hidden in the long first phase, none in the short second one.
    mask: Rate = 0.9
    drop_path: Rate = 0.1
    train_text: bool = False

    caption_field: ClassVar[str] = "text"
    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.dual_encoder_loss"

    @property
    def size(self) -> DualSize:
        """The size of the model that is trained."""
        return DualSize(self.vision, self.text, self.frames)

    def build(self, compute: Compute) -> "Objective":
        """Returns the stage's parameters, loss and batches."""
        self.check()
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def model(self, compute: Compute) -> Any:
        """Returns both towers."""
        contrast = self.contrast
        bias = contrast.bias if contrast.kind == "sigmoid" else None
        return self.size.build(compute, contrast.temperature, bias)

    def encoders(self) -> Mapping[str, Any]:
        """Returns the video tower, which can stand alone."""
        return self.size.encoders()

    def check(self) -> None:
        """Raises if the options do not fit each other."""
        self.size.check()
        self.contrast.check()
