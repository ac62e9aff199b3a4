"""Stage 1: a student that sees a fifth of the tokens predicts its teachers' features at them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Rate
from ivjax.experiment.rules import Rules, prefixed
from ivjax.models.costs import with_backward
from ivjax.models.internvideo2.sizes import EncoderSize, FeatureHeads, PooledHead, StudentSize
from ivjax.stages.mask import Mask
from ivjax.stages.teachers import ClipTeacher, MaeTeacher

if TYPE_CHECKING:
    from ivjax.stages.objective import Objective


@dataclass(frozen=True)
class Weights:
    """Weights of the loss terms.

    Attributes:
        clip: of the clip teacher's layers.
        pooled: of its pooled feature.
        mae: of the pixel teacher's layers.
    """

    clip: float = 1.0
    pooled: float = 1.0
    mae: float = 1.0


@dataclass(frozen=True)
class MaskedReconstruction:
    """The stage: heads, and for each kind of head a teacher, or None if its features arrive with the batch.

    Attributes:
        student: size of the encoder that is trained.
        clip: heads that predict the clip teacher's layers (None: none).
        pooled: head that predicts the clip teacher's pooled feature (None: none).
        mae: heads that predict the other teacher's layers (None: none).
        clip_teacher: the teacher of `clip` and `pooled`.
        mae_teacher: the teacher of `mae`.
        mask: which patches the student does not see.
        weights: weights of the loss terms.
        drop_path: the rate of the student's last block.
        targets: where teacher features are kept until the loss: at the visible tokens, or at all of them as
            in the originals, which is for comparison only.
    """

    student: EncoderSize
    # The released pretraining: 6 layers of InternVL-C, its pooled feature, and 4 layers of VideoMAE-g.
    clip: FeatureHeads | None = FeatureHeads(width=3200, layers=6)
    pooled: PooledHead | None = PooledHead(width=768)
    mae: FeatureHeads | None = FeatureHeads(width=1408, layers=4, head="mlp")
    clip_teacher: ClipTeacher | None = None
    mae_teacher: MaeTeacher | None = None
    mask: Mask = Mask()
    weights: Weights = Weights()
    drop_path: Rate = 0.25
    targets: Literal["visible", "all"] = "visible"

    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.masked_reconstruction_loss"

    @property
    def size(self) -> StudentSize:
        """The size of the model that is trained."""
        return StudentSize(self.student, self.clip, self.pooled, self.mae)

    def build(self, compute: Compute) -> "Objective":
        """Returns the stage's parameters, loss and batch."""
        self.check()
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def model(self, compute: Compute) -> Any:
        """Returns the student."""
        return self.size.build(compute)

    def teachers(self) -> Mapping[str, ClipTeacher | MaeTeacher]:
        """The teachers by branch of the parameter tree."""
        found = {"clip_teacher": self.clip_teacher, "mae_teacher": self.mae_teacher}
        return {name: teacher for name, teacher in found.items() if teacher}

    def encoders(self) -> Mapping[str, Any]:
        """Returns student and teachers, which can stand alone."""
        return {"encoder": self.student} | {name: teacher.size for name, teacher in self.teachers().items()}

    @property
    def rules(self) -> Rules:
        """Rules of the parameters of student and teachers."""
        found = [rule for name, t in self.teachers().items() for rule in prefixed(name, t.size.rules)]
        return (*self.size.rules, *found)

    @property
    def visible(self) -> int:
        """Patches that the student sees of each clip."""
        times, rows, columns = self.student.grid
        return self.mask.visible(times, rows * columns)

    @property
    def stride(self) -> int:
        """The stride of the student's frames: it sees one for each tubelet of the pixel teacher."""
        # The pixel teacher sees twice as many frames in tubelets of two, so that both have the same times.
        return self.mae_teacher.size.tubelet // self.student.tubelet if self.mae_teacher else 1

    def flops(self) -> dict[str, float]:
        """FLOPs of training per clip, by layer."""
        breakdown = with_backward(self.size.flops(self.visible))
        if self.clip_teacher:
            # Forward alone; at 1B the teachers are nine tenths of the step's FLOPs all the same.
            breakdown["clip_teacher"] = self.clip_teacher.flops(self.student.frames)
        if self.mae_teacher:
            breakdown["mae_teacher"] = self.mae_teacher.flops()
        return breakdown

    def check(self) -> None:
        """Raises if the options do not fit each other."""
        size = self.student
        size.check("student")
        for name, heads in (("clip", self.clip), ("mae", self.mae)):
            try:
                _ = heads.taps(size.depth) if heads else ()
            except ValueError as error:
                raise UserError(f"stage.{name}: {error}; lower layers or interval") from None
        self.mask.check()
        if self.clip_teacher:
            self.clip_teacher.check(size, self.clip, self.pooled, self.mask.kind == "attention")
        if self.mae_teacher:
            self.mae_teacher.check(size, self.mae)
