"""Size of the InternVideo2 encoder that stands beside texts: it reads images too."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from ivjax.experiment.rules import Rules
from ivjax.models.internvideo2.rules import ALIGNED
from ivjax.models.internvideo2.sizes import EncoderSize


@dataclass(frozen=True)
class AlignedSize(EncoderSize):
    """An InternVideo2 encoder of clips and images. Released sizes: `PRESETS`.

    Attributes:
        images: where the patches of an image stand: in a position table of their own, or at the mean over
            time of the clips' table.
        align: channels that a norm and a linear layer make of the pooled feature (None: it stays as it is).
    """

    images: Literal["table", "mean"] = "mean"
    align: int | None = None

    PRESETS: ClassVar[dict[str, "AlignedSize"]]  # type: ignore[assignment]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.internvideo2.aligned"

    # What stage 1 trains is a part of it.
    starts_from: ClassVar[tuple[type, ...]] = (EncoderSize,)

    @property
    def pool_branches(self) -> tuple[str, ...]:  # type: ignore[override]
        """Branches of the parameters that belong to the pooling alone."""
        return ("clip_projector",) if self.align is None else ("clip_projector", "align")

    @property
    def reads_images(self) -> bool:
        """A single frame is an image, unless patches are longer than it."""
        return self.tubelet == 1

    @property
    def out(self) -> int:
        """Channels of what it makes of a clip."""
        return self.pool_width if self.align is None else self.align

    @property
    def rules(self) -> Rules:
        """Rules of the encoder's parameters."""
        return ALIGNED

    def flops(self, patches: int | None = None) -> dict[str, float]:
        """Forward FLOPs per clip on so many visible patches (None: all), by layer."""
        found = super().flops(patches)
        return found | {"pool": found["pool"] + 2.0 * self.pool_width * (self.align or 0)}


def _aligned(name: str, **changes: Any) -> AlignedSize:
    return AlignedSize(**{**asdict(EncoderSize.PRESETS[name]), **changes})


AlignedSize.PRESETS = {
    # Stage 2 of the 1B model has a table of images, the others take the mean over time.
    "1B_stage2": _aligned("1B", frames=4, images="table"),
    "6B_stage2": _aligned("6B", frames=4),
    "1B_clip": _aligned("1B"),
    "6B_clip": _aligned("6B"),
    **{f"{name}_clip": _aligned(name, align=512) for name in ("S14", "B14", "L14")},
}
