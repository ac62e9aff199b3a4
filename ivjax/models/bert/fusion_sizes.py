"""Size of BERT as stage 2 has it: its last layers also look at the tokens of clips and sounds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, stated_in
from ivjax.models import costs
from ivjax.models.bert.sizes import RULES, BertSize
from ivjax.models.rules import linear, norm

FUSION_RULES: Rules = stated_in(
    __name__,
    (
        *RULES,
        # A stack of its own, because the first layers look at nothing but words.
        Rule("cross/[qkv]/kernel", (None, "fsdp", "tensor"), decays=True),
        Rule("cross/proj/kernel", (None, "tensor", "fsdp"), decays=True),
        Rule("cross/*/bias"),
        Rule("cross/*/scale"),
        *linear("words/fc"),
        *norm("words/norm"),
        Rule("words/bias"),
    ),
)


@dataclass(frozen=True)
class FusionBertSize(BertSize):
    """Everything that shapes BERT with fusion layers. Released sizes: `PRESETS`.

    Attributes:
        fusion: how many of the last blocks also look at tokens of media; the others alone read a text.
        seen: channels of those tokens.
        words: whether it has the head that guesses masked words.
        start: id of the token that a text begins with, and is read at.
        mask: id of the token in place of a masked word.
    """

    fusion: int = 5
    seen: Count = 1408
    words: bool = True
    start: int = 101
    mask: int = 103

    PRESETS: ClassVar[dict[str, "FusionBertSize"]]  # type: ignore[assignment]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.bert.fusion"

    rules: ClassVar[Rules] = FUSION_RULES

    @property
    def text_blocks(self) -> int:
        """Blocks that read words alone."""
        return self.depth - self.fusion

    def build(self, compute: Compute) -> Any:
        """Returns the FusionTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def flops(self) -> dict[str, float]:
        """Forward FLOPs per text of the layers that read words alone, padding included."""
        inner = costs.blocks(self.width, self.text_blocks, self.mlp_width, self.context)
        return {"text": inner + 2.0 * self.width * self.out}

    def fusion_flops(self, tokens: int) -> float:
        """Forward FLOPs per text of the layers that look at so many tokens of media."""
        words, width = self.context, self.width
        cross = 4.0 * words * width**2 + 4.0 * tokens * self.seen * width + 4.0 * words * tokens * width
        return costs.blocks(width, self.fusion, self.mlp_width, words) + self.fusion * cross

    def words_flops(self) -> float:
        """Forward FLOPs per text of guessing its words."""
        return 2.0 * self.context * self.width * (self.width + self.vocabulary)

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        super().check(name)
        if not 0 < self.fusion < self.depth:
            raise UserError(
                f"stage.{name}.fusion={self.fusion} of {self.depth} blocks; leave some that read words alone"
            )
        for token in ("pad", "start", "mask"):
            if getattr(self, token) >= self.vocabulary:
                raise UserError(
                    f"stage.{name}.{token}={getattr(self, token)} is no id of a vocabulary of "
                    f"{self.vocabulary}; take the ids of the tokenizer"
                )


def _with_fusion(name: str, fusion: int, **changes: Any) -> FusionBertSize:
    size: Mapping[str, Any] = asdict(BertSize.PRESETS[name])
    return FusionBertSize(**{**size, "fusion": fusion, **changes})


FusionBertSize.PRESETS = {"base": _with_fusion("base", 3), "large": _with_fusion("large", 5)}
