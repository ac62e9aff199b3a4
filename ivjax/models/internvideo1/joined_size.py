"""The size of two classifiers whose towers read each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.sizes import Grid, VideoTowerSize, check_width
from ivjax.models.videomae import VideoMaeSize

_STACKED = (None, "fsdp", "tensor")

CROSS: Rules = stated_in(
    __name__,
    (
        Rule("cross/*/kernel", _STACKED, decays=True),
        Rule("cross"),
        Rule("back/*/kernel", ("fsdp", "tensor"), decays=True),
        Rule("back"),
        Rule("mix"),
    ),
)


@dataclass(frozen=True)
class JoinedSize:
    """Two classifiers of the same classes. Tokens of the first read those of the second at some depths, and
    the pooled feature of the second reads the tokens of the first at the end.

    Attributes:
        masked: the first, of a VideoMAE; clips have its frames.
        multimodal: the second, of any tower that pools; it reads every n-th frame.
        places: blocks of the first, ascending, after which its tokens read.
        read: blocks of the second whose tokens are read there, as many.
        heads: attention heads of a reading.
        mlp_ratio: hidden channels of a reading's MLP over its width.
    """

    masked: ClassifierSize
    multimodal: ClassifierSize
    places: tuple[int, ...]
    read: tuple[int, ...]
    heads: Count = 16
    mlp_ratio: Count = 4

    IMPLEMENTATION: ClassVar[str] = "ivjax.models.internvideo1.joined"

    @property
    def encoder(self) -> VideoTowerSize:
        """The tower that the clips are made for."""
        return self.masked.encoder

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.masked.classes

    @property
    def grid(self) -> Grid:
        """The first tower's patch grid."""
        return self.masked.grid

    @property
    def stride(self) -> int:
        """The second tower reads every frame of so many."""
        return self.masked.encoder.frames // self.multimodal.encoder.frames

    @property
    def rules(self) -> Rules:
        """Rules of all parameters."""
        first, second = self.masked.rules, self.multimodal.rules
        return (*CROSS, *prefixed("masked", first), *prefixed("multimodal", second))

    def build(self, compute: Compute, dropout: float = 0.0) -> Any:
        """Returns the JoinedClassifier; `dropout` is the share of the heads' inputs that training drops."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, dropout)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: its towers lie inside classifiers."""
        return {}

    def branches(self) -> Mapping[str, Any]:
        """Returns both classifiers, which files of them fill."""
        return {"masked": self.masked, "multimodal": self.multimodal}

    def trains_pooling(self) -> bool:
        """True: the heads see what is pooled."""
        return True

    def flops(self) -> dict[str, float]:
        """Forward FLOPs per clip, by part."""
        first, second = self.masked.encoder, self.multimodal.encoder
        here = first.class_tokens + first.patches
        there = second.class_tokens + second.patches
        reading = self._reading(here, first.width, there, second.width)
        back = self._reading(1, self.multimodal.pooled, here, first.width)
        return {
            "masked": sum(self.masked.flops().values()),
            "multimodal": sum(self.multimodal.flops().values()),
            "cross": len(self.places) * reading + back,
        }

    def _reading(self, tokens: int, width: int, context: int, context_width: int) -> float:
        projections = 2 * tokens * width**2 + 2 * context * width * context_width
        mlp = 2 * self.mlp_ratio * tokens * width**2
        return 2.0 * (projections + mlp + 2 * tokens * context * width)

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        first, second = self.masked, self.multimodal
        first.check(f"{name}.masked")
        second.check(f"{name}.multimodal")
        if not isinstance(first.encoder, VideoMaeSize):
            raise UserError(
                f"stage.{name}.masked.encoder must be a VideoMAE, whose blocks can be interrupted"
            )
        if first.merge != "proj" or second.merge != "proj" or first.extra_mlp or second.extra_mlp:
            raise UserError(f"stage.{name}: both heads must read the pooled feature alone (merge=proj)")
        if first.classes != second.classes:
            raise UserError(
                f"stage.{name}: the towers know {first.classes} and {second.classes} classes; make them equal"
            )
        if second.encoder.out is None:
            raise UserError(f"stage.{name}.multimodal.encoder pools nothing that could read; choose another")
        if first.encoder.frames % second.encoder.frames:
            raise UserError(
                f"stage.{name}: {second.encoder.frames} frames are no n-th part of {first.encoder.frames}; "
                "change the frames of one of them"
            )
        self._check_places(name)
        widths = {"masked": first.encoder.width, "multimodal": second.pooled}
        for which, width in widths.items():
            check_width(f"{name}.{which}", width, {"heads of a reading": self.heads})

    def _check_places(self, name: str) -> None:
        depths = {"places": self.masked.encoder.depth, "read": self.multimodal.encoder.depth}
        for option, depth in depths.items():
            chosen = getattr(self, option)
            if any(a >= b for a, b in zip((-1, *chosen), (*chosen, depth), strict=True)):
                raise UserError(f"stage.{name}.{option}={chosen} must name some of {depth} blocks, ascending")
        if len(self.places) != len(self.read):
            raise UserError(f"stage.{name}: places and read must be equally many; each place reads one block")
