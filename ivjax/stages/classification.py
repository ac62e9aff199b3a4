"""Fine-tuning and probing: a classifier on any video tower, all of it trained or only its top."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Rate
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.costs import with_backward

if TYPE_CHECKING:
    from ivjax.stages.objective import Objective


@dataclass(frozen=True)
class Probe:
    """A frozen encoder, or one of which the top alone is trained.

    Attributes:
        open_blocks: how many of the last blocks are trained all the same.
        open_pool: whether the pooling is trained.
    """

    open_blocks: int = 0
    open_pool: bool = False

    PRESETS: ClassVar[dict[str, "Probe"]]


Probe.PRESETS = {"linear": Probe(), "attentive": Probe(open_pool=True)}


@dataclass(frozen=True)
class Classification:
    """The stage.

    Attributes:
        classifier: size of the classifier.
        mixed: whether the data mixes clips and gives soft `targets`; otherwise it gives a `label`.
        smoothing: the share of a label that is spread over all classes.
        drop_path: the rate of the last block.
        dropout: the share of the head's inputs that is dropped.
        head_scale: the head's fresh kernel is multiplied by it.
        probe: what of the encoder is trained (None: everything).
    """

    classifier: ClassifierSize
    mixed: bool = True
    smoothing: Rate = 0.1
    drop_path: Rate = 0.0
    dropout: Rate = 0.0
    # The originals' init_scale: the logits of a fresh head are nearly equal.
    head_scale: float = 1e-3
    probe: Probe | None = None

    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.classification_loss"

    @property
    def size(self) -> ClassifierSize:
        """The size of the model that is trained."""
        return self.classifier

    def build(self, compute: Compute) -> "Objective":
        """Returns the stage's parameters, loss and batch."""
        self.check()
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def model(self, compute: Compute) -> Any:
        """Returns the classifier."""
        return self.classifier.build(compute, self.dropout)

    def encoders(self) -> Mapping[str, Any]:
        """Returns the encoder, which can stand alone."""
        return self.classifier.encoders()

    @property
    def frozen_blocks(self) -> int:
        """The number of first blocks that are frozen while the others learn."""
        if self.probe is None or not self.probe.open_blocks:
            return 0
        # Only with open blocks: without any, the whole stack is frozen by its path,
        # and has no gradients to cut.
        return self.classifier.encoder.depth - self.probe.open_blocks

    def flops(self) -> dict[str, float]:
        """FLOPs of training per clip, by layer."""
        forward, probe = self.classifier.flops(), self.probe
        if probe is None:
            return with_backward(forward)
        # Backward means a product for the kernels that learn, and one for the tokens if something below does.
        times = {
            "blocks": 1 + 2 * probe.open_blocks / self.classifier.encoder.depth,
            "pool": 1 + probe.open_pool + (probe.open_blocks > 0),
            # The merged tokens' `down` counts as head, and learns in every probe.
            "head": 3,
        }
        return {name: cost * times.get(name, 1) for name, cost in forward.items()}

    def check(self) -> None:
        """Raises if the options do not fit each other."""
        depth = self.classifier.encoder.depth
        self.classifier.check("classifier")
        if self.probe and not 0 <= self.probe.open_blocks <= depth:
            raise UserError(
                f"stage.probe.open_blocks={self.probe.open_blocks}; the encoder has {depth} blocks"
            )
