"""VideoMAE's pre-training: a tenth of a clip's tokens is seen, and the pixels of the others are predicted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Rate
from ivjax.models.sizes import check_width
from ivjax.models.videomae.sizes import AutoencoderSize, DecoderSize, VideoMaeSize
from ivjax.stages.mask import Mask

if TYPE_CHECKING:
    from ivjax.stages.objective import Objective


@dataclass(frozen=True)
class MaskedPixels:
    """The stage.

    Attributes:
        encoder: size of the encoder.
        decoder: size of the decoder.
        mask: which patches the encoder does not see.
        decode: the share of all patches that the decoder skips, by a running-cell mask; decoded patches that
            the encoder has seen do not count in the loss (None: all hidden patches are decoded).
        normalised: whether targets have mean 0 and deviation 1 in each patch and colour.
        drop_path: the rate of the last block, of the encoder and of the decoder.
    """

    encoder: VideoMaeSize
    decoder: DecoderSize
    mask: Mask = Mask(kind="tube", ratio=0.9)
    decode: float | None = None
    normalised: bool = True
    drop_path: Rate = 0.0

    IMPLEMENTATION: ClassVar[str] = "ivjax.stages.masked_pixels_loss"

    @property
    def size(self) -> AutoencoderSize:
        """The size of the model that is trained."""
        return AutoencoderSize(self.encoder, self.decoder)

    def build(self, compute: Compute) -> "Objective":
        """Returns the stage's parameters, loss and batch."""
        self.check()
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def model(self, compute: Compute) -> Any:
        """Returns the encoder and the decoder."""
        return self.size.build(compute)

    def encoders(self) -> Mapping[str, Any]:
        """Returns the encoder, which can stand alone."""
        return self.size.encoders()

    @property
    def visible(self) -> int:
        """Patches that the encoder sees of each clip."""
        times, rows, columns = self.encoder.grid
        return self.mask.visible(times, rows * columns)

    @property
    def uneven(self) -> bool:
        """Whether clips differ in the number of tokens that count in the loss."""
        # The cell has four turns. Over a multiple of four times each patch of a
        # tube is decoded equally often.
        even = self.mask.kind == "tube" and self.encoder.grid[0] % 4 == 0
        return self.decode is not None and not even

    def check(self) -> None:
        """Raises if the options do not fit each other."""
        self.encoder.check("encoder")
        check_width("decoder", self.decoder.width, {"heads": self.decoder.heads})
        if self.encoder.attention == "released_head_axis":
            raise UserError(
                "stage.encoder.attention=released_head_axis is how teachers are run, not trained; "
                "choose standard or cosine"
            )
        self._check_masks()

    def _check_masks(self) -> None:
        self.mask.check()
        if self.mask.kind == "attention":
            raise UserError(
                "stage.mask.kind=attention needs a teacher, which this stage lacks; set stage.mask.kind=tube"
            )
        # Without hidden patches the loss would be a mean over nothing.
        if self.visible == self.encoder.patches:
            raise UserError(f"stage.mask.ratio={self.mask.ratio} hides no patch; raise it")
        if self.decode is None:
            return
        # A cell has four patches: below a quarter none is skipped.
        if not 0.25 <= self.decode < 1.0:
            raise UserError(
                f"stage.decode={self.decode}; let the decoder skip 0.25, 0.5 or 0.75 of the patches, or "
                "write none to decode all that are hidden"
            )
        _, rows, columns = self.encoder.grid
        # Cells of 2x2 patches have to tile the grid.
        if rows % 2 or columns % 2:
            raise UserError(
                f"stage.decode={self.decode} needs an even grid, and {rows}x{columns} patches are not; "
                "change stage.encoder.image, or write none to decode all that are hidden"
            )
