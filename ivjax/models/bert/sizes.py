"""Size of BERT, the text encoder of stage 2."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, stated_in
from ivjax.models import costs
from ivjax.models.rules import BLOCKS, linear, norm
from ivjax.models.sizes import VideoTowerSize, check_width

RULES: Rules = stated_in(
    __name__,
    (
        *BLOCKS,
        # The originals decay every table: of words, of places and of types.
        *(Rule(f"{name}_embed", (None, "fsdp"), decays=True) for name in ("word", "place", "type")),
        *norm("norm_embed"),
        *linear("proj"),
    ),
)


@dataclass(frozen=True)
class BertSize:
    """Everything that shapes BERT as a text tower. Released sizes: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: attention heads of a block.
        mlp_width: hidden channels of a block's MLP.
        out: channels of a text's embedding; no file of BERT holds the layer that makes it.
        context: tokens of a text.
        vocabulary: token ids are below it.
        places: rows of the table of places, the longest text that it could read.
        pad: id of the tokens that fill a text up, which no other token sees.
    """

    width: Count
    depth: Count
    heads: Count
    mlp_width: Count
    out: Count = 512
    # As the 1B model of stage 2 was trained; the 6B model took 40.
    context: Count = 32
    vocabulary: Count = 30522
    places: Count = 512
    pad: int = 0

    PRESETS: ClassVar[dict[str, "BertSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.bert.tower"

    grid: ClassVar[None] = None
    rules: ClassVar[Rules] = RULES

    def build(self, compute: Compute) -> Any:
        """Returns the TextTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: there is no video tower inside."""
        return {}

    def flops(self) -> dict[str, float]:
        """Forward FLOPs per text, padding included."""
        inner = costs.blocks(self.width, self.depth, self.mlp_width, self.context)
        return {"text": inner + 2.0 * self.width * self.out}

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_width(name, self.width, {"heads": self.heads})
        if self.context > self.places:
            raise UserError(
                f"stage.{name}.context={self.context} is longer than its table of {self.places} places; "
                "shorten it"
            )


_BASE = BertSize(width=768, depth=12, heads=12, mlp_width=3072)
_LARGE = BertSize(width=1024, depth=24, heads=16, mlp_width=4096)
BertSize.PRESETS = {
    "base": _BASE,
    "large": _LARGE,
    "base_cased": replace(_BASE, vocabulary=28996),
    "large_cased": replace(_LARGE, vocabulary=28996),
}
