"""InternVideo-Next, stage 1: a student learns a teacher's features where it sees, and pixels where not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count, Rate
from ivjax.experiment.rules import Rules, prefixed
from ivjax.models.costs import with_backward
from ivjax.models.internvideo2.sizes import FeatureHeads, PooledHead
from ivjax.models.internvideo_next import DiffusionSize, NextSize, NextStudentSize
from ivjax.models.modernbert import ModernBertSize
from ivjax.models.sizes import VideoTowerSize, tapped_layers
from ivjax.stages.mask import Mask

if TYPE_CHECKING:
    from ivjax.stages.objective import Objective


@dataclass(frozen=True)
class LayerInputTeacher:
    """A tower the inputs of whose layers are predicted; its pooling attends, and so guides the mask.

    It reads clips segment by segment; frames of another size than its own are resized in the step.

    Attributes:
        size: size of the tower.
        interval: the inputs predicted are those of the last layer and back by it, as many as there are heads.
    """

    size: VideoTowerSize
    interval: float = 1.0

    def taps(self, layers: int) -> tuple[int, ...]:
        """The blocks whose outputs are the inputs of those layers."""
        try:
            found = tapped_layers(self.size.depth, layers, self.interval)
        except ValueError as error:
            raise UserError(f"stage.teacher: {error}; change stage.clip.layers or interval") from None
        if not found[0]:
            raise UserError(
                f"stage.teacher: {layers} layers at interval {self.interval} reach the first layer, whose "
                "input no block has made; change stage.clip.layers or interval"
            )
        return tuple(layer - 1 for layer in found)

    def segments(self, frames: int) -> int:
        """The number of segments in which it reads clips of `frames` frames."""
        return frames // self.size.frames

    def check(self, student: VideoTowerSize, heads: FeatureHeads, pooled: PooledHead) -> None:
        """Raises if a student's tokens or heads have no counterpart in this teacher's."""
        size = self.size
        self.taps(heads.layers)
        grid = (self.segments(student.frames) * size.grid[0], *size.grid[1:])
        if student.frames % size.frames or grid != student.grid:
            raise UserError(
                f"stage.teacher.size reads {student.frames} frames as {grid} patches of {size.image}, and "
                f"stage.student as {student.grid} of {student.image}; make the grids of patches equal"
            )
        if not size.pool_attends:
            raise UserError(
                "stage.teacher.size pools without attention, which guides the mask; choose another"
            )
        for name, width, wanted in (("clip", heads.width, size.width), ("pooled", pooled.width, size.out)):
            if width != wanted:
                raise UserError(f"stage.{name}.width={width} and the teacher has {wanted}; make them equal")


@dataclass(frozen=True)
class TermWeights:
    """Weights of the loss terms.

    Attributes:
        clip: of the teacher's layers.
        pooled: of its pooled feature.
        diffusion: of the hidden pixels.
    """

    clip: float = 1.0
    pooled: float = 1.0
    diffusion: float = 1.0


@dataclass(frozen=True)
class MaskedDiffusion:
    """The stage.

    Attributes:
        student: size of the encoder that is trained.
        teacher: the tower whose features are predicted.
        clip: heads that predict the teacher's layers.
        pooled: head that predicts its pooled feature.
        predictor: layers between the encoder and the decoder of pixels.
        diffusion: the decoder of pixels.
        mask: which patches the student does not see.
        weights: weights of the loss terms.
        repeats: how often each hidden patch is decoded in a step, in other noise each time.
        drop_path: the rate of the student's last block.
    """

    student: NextSize
    teacher: LayerInputTeacher
    clip: FeatureHeads = FeatureHeads(1536, 6, head="mlp")
    pooled: PooledHead = PooledHead(1536, head="mlp")
    predictor: ModernBertSize = ModernBertSize.PRESETS["large_last5"]
    diffusion: DiffusionSize = DiffusionSize()
    mask: Mask = Mask("attention", 0.75)
    weights: TermWeights = TermWeights()
    repeats: Count = 1
    drop_path: Rate = 0.1

    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.internvideo_next.masked_diffusion_loss"

    @property
    def size(self) -> NextStudentSize:
        """The size of the model that is trained."""
        return NextStudentSize(self.student, self.clip, self.pooled, self.predictor, self.diffusion)

    def build(self, compute: Compute) -> "Objective":
        """Returns the stage's parameters, loss and batch."""
        self.check()
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def model(self, compute: Compute) -> Any:
        """Returns the student."""
        return self.size.build(compute)

    def encoders(self) -> Mapping[str, Any]:
        """Returns student and teacher, which can stand alone."""
        return {"encoder": self.student, "teacher": self.teacher.size}

    @property
    def rules(self) -> Rules:
        """Rules of the parameters of student and teacher."""
        return (*self.size.rules, *prefixed("teacher", self.teacher.size.rules))

    @property
    def visible(self) -> int:
        """Patches that the student sees of each clip."""
        times, rows, columns = self.student.grid
        return self.mask.visible(times, rows * columns)

    def flops(self) -> dict[str, float]:
        """FLOPs of training per clip, by layer."""
        forward = self.size.flops(self.visible)
        forward["diffusion"] *= self.repeats
        teacher = self.teacher.segments(self.student.frames) * sum(self.teacher.size.flops().values())
        return with_backward(forward) | {"teacher": teacher}

    def check(self) -> None:
        """Raises if the options do not fit each other."""
        size = self.student
        size.check("student")
        self.predictor.check("predictor")
        try:
            self.clip.taps(size.depth)
        except ValueError as error:
            raise UserError(f"stage.clip: {error}; lower layers or interval") from None
        self.mask.check()
        if self.visible == size.patches:
            raise UserError(f"stage.mask.ratio={self.mask.ratio} hides no patch; raise it")
        self.teacher.check(size, self.clip, self.pooled)
