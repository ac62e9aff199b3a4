"""Cross-model attention: two frozen towers are joined, and what joins them learns with both heads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Rate
from ivjax.models.internvideo1 import JoinedSize

if TYPE_CHECKING:
    from ivjax.stages.objective import Objective


@dataclass(frozen=True)
class JoinedClassification:
    """The stage.

    Attributes:
        joined: size of both classifiers and of what joins them.
        mixed: whether the data mixes clips and gives soft `targets`; otherwise it gives a `label`.
        smoothing: the share of a label that is spread over all classes.
        dropout: the share of the heads' inputs that is dropped.
        train_heads: whether the heads learn as well.
    """

    joined: JoinedSize
    mixed: bool = False
    smoothing: Rate = 0.1
    dropout: Rate = 0.5
    train_heads: bool = True

    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.internvideo1.joined_classification_loss"

    @property
    def size(self) -> JoinedSize:
        """The size of the model that is trained."""
        return self.joined

    def build(self, compute: Compute) -> "Objective":
        """Returns the stage's parameters, loss and batch."""
        self.joined.check("joined")
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def model(self, compute: Compute) -> Any:
        """Returns the joined classifiers."""
        return self.joined.build(compute, self.dropout)

    def encoders(self) -> Mapping[str, Any]:
        """Returns nothing: the towers lie inside classifiers."""
        return self.joined.encoders()
