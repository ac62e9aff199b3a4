"""Contrast and captions: clips meet their captions in one space, and a decoder writes the captions down."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Rate, Within
from ivjax.models.internvideo1 import CaptionDecoderSize, CaptioningSize
from ivjax.models.sizes import VideoTowerSize
from ivjax.models.viclip import TextSize

if TYPE_CHECKING:
    from ivjax.stages.objective import Objective


@dataclass(frozen=True)
class CaptionedContrast:
    """The stage.

    Attributes:
        vision: size of the video tower, which must pool.
        text: size of the text tower.
        decoder: size of the decoder of captions.
        contrast: weight of the contrast.
        caption: weight of the captions.
        temperature: cosines are divided by it; its logarithm is learned, and this is where it starts.
        form: how the rows of the contrast meet (ivjax/ops/contrastive.py).
        drop_path: the rate of the video tower's last block.
        train_text: whether the text tower is trained.
        caption_field: name of the field that gives the captions; their tokenizer is the model's.
    """

    vision: VideoTowerSize
    text: TextSize
    decoder: CaptionDecoderSize = CaptionDecoderSize()
    contrast: float = 1.0
    caption: float = 1.0
    temperature: Annotated[float, Within(0.01, 1)] = 0.07
    form: Literal["dense", "gathered", "ring"] = "gathered"
    drop_path: Rate = 0.0
    train_text: bool = True

    caption_field: ClassVar[str] = "text"
    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.internvideo1.captioned_contrast_loss"

    @property
    def size(self) -> CaptioningSize:
        """The size of the model that is trained."""
        return CaptioningSize(self.vision, self.text, decoder=self.decoder)

    def build(self, compute: Compute) -> "Objective":
        """Returns the stage's parameters, loss and batches."""
        self.size.check()
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def model(self, compute: Compute) -> Any:
        """Returns both towers and the decoder."""
        return self.size.build(compute, self.temperature)

    def encoders(self) -> Mapping[str, Any]:
        """Returns the video tower, which can stand alone."""
        return self.size.encoders()
