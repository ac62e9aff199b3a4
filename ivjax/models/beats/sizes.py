"""Size of BEATs, the audio encoder of stage 2."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, stated_in
from ivjax.models import costs
from ivjax.models.rules import BLOCKS, linear, norm
from ivjax.models.sizes import check_width

RULES: Rules = stated_in(
    __name__,
    (
        Rule("patch_embed/kernel", (None, None, "fsdp"), decays=True, depth="first"),
        *norm("norm_patches"),
        *linear("proj"),
        Rule("places/kernel", (None, None, "fsdp"), decays=True),
        Rule("places/scale", decays=True),
        Rule("places/bias"),
        *norm("norm"),
        Rule("distances", decays=True),
        *BLOCKS,
        Rule("blocks/attn/gate/kernel", decays=True, depth="stacked"),
        Rule("blocks/gate_scale", decays=True, depth="stacked"),
    ),
)


@dataclass(frozen=True)
class BeatsSize:
    """Everything that shapes BEATs. Released size: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: attention heads of a block.
        mlp_width: hidden channels of a block's MLP.
        patch_width: channels of an embedded patch.
        patch: side of a patch, in frames and in bins.
        frames: frames of a sound's filter bank.
        bins: frequencies of a frame.
        place_taps: tokens that the convolution of places sees.
        place_groups: its groups.
        buckets: classes of distances between tokens.
        distance: the distance from which on all are of one class.
        gradient_decay: what gradients are multiplied by at the input of each block.
    """

    width: Count
    depth: Count
    heads: Count
    mlp_width: Count
    patch_width: Count = 512
    patch: Count = 16
    # Ten seconds, as stage 2 reads them; BEATs itself was trained with 128 bins.
    frames: Count = 998
    bins: Count = 64
    place_taps: Count = 128
    place_groups: Count = 16
    buckets: Count = 320
    distance: Count = 800
    gradient_decay: float = 0.6

    PRESETS: ClassVar[dict[str, "BeatsSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.beats.network"

    grid: ClassVar[None] = None
    rules: ClassVar[Rules] = RULES

    @property
    def tokens(self) -> int:
        """Tokens of a sound."""
        return (self.frames // self.patch) * (self.bins // self.patch)

    def build(self, compute: Compute) -> Any:
        """Returns the AudioTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def encoders(self) -> dict[str, Any]:
        """Returns nothing: there is no video tower inside."""
        return {}

    def flops(self) -> dict[str, float]:
        """Forward FLOPs per sound."""
        tokens, width = self.tokens, self.width
        embedded = 2.0 * tokens * (self.patch**2 + width) * self.patch_width
        places = 2.0 * tokens * self.place_taps * width**2 / self.place_groups
        return {"audio": embedded + places + costs.blocks(width, self.depth, self.mlp_width, tokens)}

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_width(name, self.width, {"heads": self.heads, "place_groups": self.place_groups})
        if self.bins % self.patch or self.frames < self.patch:
            raise UserError(
                f"stage.{name}: {self.frames} frames of {self.bins} bins are no patches of {self.patch}; "
                "change bins, frames or patch"
            )


BeatsSize.PRESETS = {"iter3": BeatsSize(width=768, depth=12, heads=12, mlp_width=3072)}
