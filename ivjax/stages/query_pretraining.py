"""First training of a Q-Former, on captions: contrast, matching and captioning, as in VideoChat2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.models.qformer.pretraining_size import QueryPretrainSize
from ivjax.models.sizes import VideoTowerSize
from ivjax.stages.dual_encoder import Contrast

if TYPE_CHECKING:
    from ivjax.stages.objective import Objective


@dataclass(frozen=True)
class QueryPretraining:
    """The stage: the sum of three losses of clips and captions.

    Attributes:
        model_size: size of the tower, the Q-Former and its heads.
        contrast: how clips and captions are compared; captions of one clip are all right.
        words: tokens of a caption.
        start: id that starts a caption which is said, in place of [CLS].
        weights: of contrast, matching and captioning.
        pairs: pairs that are matched at a time on all devices, to save memory (None: all).
    """

    model_size: QueryPretrainSize
    contrast: Contrast = Contrast(temperature=0.07, least=0.001, most=0.5)
    words: Count = 32
    # [DEC], which the originals add behind the vocabulary of BERT.
    start: int = 30522
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pairs: int | None = None

    caption_field: ClassVar[str] = "text"
    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.query_pretraining_loss"

    @property
    def size(self) -> QueryPretrainSize:
        """The size of the model that is trained."""
        return self.model_size

    def build(self, compute: Compute) -> "Objective":
        """Returns the stage's parameters, loss and batches."""
        self.check()
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def model(self, compute: Compute) -> Any:
        """Returns the model."""
        return self.model_size.build(compute, self.contrast.temperature)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns the vision tower, which can stand alone."""
        return self.model_size.encoders()

    def check(self) -> None:
        """Raises if the options do not fit each other."""
        self.model_size.check("model_size")
        bridge = self.model_size.bridge
        if not 2 <= self.words <= bridge.places:
            raise UserError(
                f"stage.words={self.words}; it must be 2 to {bridge.places}, the places of the Q-Former"
            )
        if not 0 <= self.start < bridge.vocabulary:
            raise UserError(
                f"stage.start={self.start} is no word of the Q-Former, whose ids are 0 to "
                f"{bridge.vocabulary - 1}"
            )
        if self.contrast.kind != "info_nce":
            raise UserError(f"stage.contrast.kind={self.contrast.kind}; this stage has info_nce alone")
        self.contrast.check()
