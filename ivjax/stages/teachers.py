"""The teachers of stage 1 as an experiment describes them."""

from dataclasses import dataclass
from typing import Any

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Rate
from ivjax.models.internvideo2.sizes import FeatureHeads, PooledHead
from ivjax.models.sizes import VideoTowerSize, tapped_layers


@dataclass(frozen=True)
class ClipTeacher:
    """A tower whose last layers and pooled feature are predicted, and whose attention guides the mask.

    One of fewer frames than the student reads them segment by segment; one of single frames is InternVL-C's
    image tower. Frames of another size than its own are resized in the step.

    Attributes:
        size: size of the tower.
        interval: the predicted layers are the last one and back by it, as many as there are heads.
        chosen: the predicted layers, ascending, in place of `interval`.
        drop_path: above 0 makes the targets random, as those of the originals' distillation were by oversight
            (0.25).
    """

    size: VideoTowerSize
    interval: float = 1.0
    chosen: tuple[int, ...] | None = None
    drop_path: Rate = 0.0

    def model(self, heads: FeatureHeads | None, compute: Compute) -> Any:
        """Returns the tower, whose taps are the layers that `heads` predict."""
        return self.size.build(_without_remat(compute), self.taps(heads))

    def taps(self, heads: FeatureHeads | None) -> tuple[int, ...]:
        """The layers that `heads` predict."""
        return _taps("clip_teacher", self.size.depth, self.interval, self.chosen, heads)

    def segments(self, frames: int) -> int:
        """The number of segments in which it reads clips of `frames` frames."""
        return frames // self.size.frames

    def flops(self, frames: int) -> float:
        """Forward FLOPs per clip of `frames` frames."""
        # All patches: a teacher sees the whole clip, and the student a fifth of it.
        return self.segments(frames) * sum(self.size.flops().values())

    def check(
        self,
        student: VideoTowerSize,
        heads: FeatureHeads | None,
        pooled: PooledHead | None,
        guides_mask: bool = False,
    ) -> None:
        """Raises if a student's tokens or heads have no counterpart in this teacher's."""
        size, frames = self.size, student.frames
        self.taps(heads)
        segments, rest = divmod(frames, size.frames)
        grid = (segments * size.grid[0], *size.grid[1:])
        # Grids are compared, not frames or sizes of pictures: targets are taken at
        # the student's token numbers.
        if rest or grid != student.grid:
            raise UserError(
                f"stage.clip_teacher.size reads {frames} frames as {grid} patches of {size.image}, and "
                f"stage.student as {student.grid} of {student.image}; make the grids of patches equal"
            )
        if heads and size.class_tokens != 1:
            raise UserError(
                f"stage.clip_teacher.size has {size.class_tokens} class tokens and stage.clip predicts one; "
                "choose another tower, or stage.clip=none"
            )
        if guides_mask and not size.pool_attends:
            raise UserError(
                "stage.mask.kind=attention needs a stage.clip_teacher.size that pools by attention; set "
                "stage.mask.kind=random, or choose another size"
            )
        _check_width("clip", heads.width if heads else None, "clip_teacher.size.width", size.width)
        _check_width("pooled", pooled.width if pooled else None, "clip_teacher.size.out", size.out)


@dataclass(frozen=True)
class MaeTeacher:
    """A tower whose last layers are predicted at the patches; it may see more frames than the student.

    Frames of another size than its own are resized in the step.

    Attributes:
        size: size of the tower.
        interval: the predicted layers are the last one and back by it, as many as there are heads.
        chosen: the predicted layers, ascending, in place of `interval`.
    """

    size: VideoTowerSize
    interval: float = 1.0
    chosen: tuple[int, ...] | None = None

    def model(self, heads: FeatureHeads | None, compute: Compute) -> Any:
        """Returns the tower, whose taps are the layers that `heads` predict."""
        return self.size.build(_without_remat(compute), self.taps(heads))

    def taps(self, heads: FeatureHeads | None) -> tuple[int, ...]:
        """The layers that `heads` predict."""
        return _taps("mae_teacher", self.size.depth, self.interval, self.chosen, heads)

    def flops(self) -> float:
        """Forward FLOPs per clip."""
        return sum(self.size.flops().values())

    def check(self, student: VideoTowerSize, heads: FeatureHeads | None) -> None:
        """Raises if a student's tokens or heads have no counterpart in this teacher's."""
        size = self.size
        self.taps(heads)
        # Grids again; and the frames that the student takes have a whole number between them.
        if size.tubelet % student.tubelet or size.grid != student.grid:
            raise UserError(
                f"stage.mae_teacher.size reads {size.frames} frames as {size.grid} patches of {size.image}, "
                f"and stage.student {student.frames} as {student.grid} of {student.image}; make the grids of "
                "patches equal"
            )
        _check_width("mae", heads.width if heads else None, "mae_teacher.size.width", size.width)


def _without_remat(compute: Compute) -> Compute:
    """Nothing of a teacher is rematerialised, because nothing of it is differentiated."""
    return Compute(compute.dtype, scan=compute.scan)


def _check_width(heads: str, width: int | None, name: str, size: int | None) -> None:
    if width is not None and width != size:
        raise UserError(f"stage.{heads}.width={width} and stage.{name}={size} differ; make them equal")


def _taps(
    name: str, depth: int, interval: float, chosen: tuple[int, ...] | None, heads: FeatureHeads | None
) -> tuple[int, ...]:
    try:
        return tapped_layers(depth, heads.layers, interval, chosen) if heads else ()
    except ValueError as error:
        raise UserError(f"stage.{name}: {error}; change the heads' layers, or interval, or chosen") from None
