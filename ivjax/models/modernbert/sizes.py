"""The size of a run of ModernBERT's layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, stated_in
from ivjax.models import costs
from ivjax.models.sizes import VideoTowerSize, check_width

MODERNBERT: Rules = stated_in(
    __name__,
    (
        Rule("blocks/attn/qkv/kernel", (None, None, "fsdp", "tensor"), decays=True, depth="stacked"),
        Rule("blocks/attn/proj/kernel", (None, "tensor", "fsdp"), decays=True, depth="stacked"),
        Rule("blocks/mlp/gates/kernel", (None, None, "fsdp", "tensor"), decays=True, depth="stacked"),
        Rule("blocks/mlp/down/kernel", (None, "tensor", "fsdp"), decays=True, depth="stacked"),
        Rule("blocks/*/scale", depth="stacked"),
    ),
)


@dataclass(frozen=True)
class ModernBertSize:
    """Some layers of a ModernBERT, without words and without the norm behind the last layer.

    Attributes:
        width: channels of a token.
        depth: layers.
        heads: attention heads of a layer.
        mlp_width: hidden channels of a layer's gated MLP.
        first: number of the first of these layers in the whole model, which decides which ones are global.
        every: layers whose number it divides are global, the others local.
        reach: how far a token of a local layer sees to either side.
        global_base: base of the rotary angles of global layers.
        local_base: the same of local layers.
    """

    width: Count
    depth: Count
    heads: Count
    mlp_width: Count
    first: int = 0
    every: int = 3
    reach: int = 64
    global_base: float = 160_000.0
    local_base: float = 10_000.0

    PRESETS: ClassVar[dict[str, "ModernBertSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.modernbert.network"

    grid: ClassVar[None] = None

    @property
    def rules(self) -> Rules:
        """Rules of the layers' parameters."""
        return MODERNBERT

    @property
    def global_layers(self) -> tuple[bool, ...]:
        """Whether each layer is global."""
        return tuple((self.first + i) % self.every == 0 for i in range(self.depth))

    def build(self, compute: Compute) -> Any:
        """Returns the layers as a model."""
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: there is no video tower inside."""
        return {}

    def flops(self, tokens: int) -> float:
        """Forward FLOPs on so many tokens."""
        # Three products of the gated MLP where a plain one has two.
        inner = costs.blocks(self.width, self.depth, 3 * self.mlp_width // 2, tokens)
        spared = max(tokens - 2 * self.reach - 1, 0) * tokens * 4.0 * self.width
        return inner - spared * self.global_layers.count(False)

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_width(name, self.width, {"heads": self.heads})
        if self.width // self.heads % 2:
            raise UserError(
                f"stage.{name}: heads of {self.width // self.heads} channels cannot be turned in pairs; "
                "choose a width that leaves an even number for each head"
            )


ModernBertSize.PRESETS = {
    # InternVideo-Next predicts with the last five of the 28 layers of the large model.
    "large_last5": ModernBertSize(width=1024, depth=5, heads=16, mlp_width=2624, first=23),
}
