"""Sizes of InternVideo2-CLIP's text towers, and the released pairs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models import costs
from ivjax.models.decoder.sizes import LanguageSize, Lora
from ivjax.models.dual_size import DualSize
from ivjax.models.internvideo2.aligned_sizes import AlignedSize
from ivjax.models.rules import BLOCKS, linear, norm
from ivjax.models.sizes import VideoTowerSize, check_width

MOBILE: Rules = stated_in(
    __name__,
    (
        *BLOCKS,
        Rule("word_embed", (None, "fsdp"), decays=True),
        Rule("place_embed", (None, "fsdp")),
        *norm("norm"),
        *linear("proj"),
    ),
)


@dataclass(frozen=True)
class LanguageTextSize:
    """A language model as a text tower: its state at the last word is the text's embedding.

    Attributes:
        language: size of the language model; it needs no head, so `tied` is true.
        out: channels of a text's embedding.
        context: tokens of a text.
        pad: id of the tokens that fill a text up on the right.
    """

    language: LanguageSize
    out: Count = 768
    context: Count = 80
    pad: int = 0

    PRESETS: ClassVar[dict[str, "LanguageTextSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.iv2clip.language"

    grid: ClassVar[None] = None

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.language.width

    @property
    def vocabulary(self) -> int:
        """Token ids are below it."""
        return self.language.vocabulary

    @property
    def rules(self) -> Rules:
        """Rules of the tower's parameters."""
        return (*prefixed("language", self.language.rules), *stated_in(__name__, linear("proj")))

    def build(self, compute: Compute) -> Any:
        """Returns the TextTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: there is no video tower inside."""
        return {}

    def flops(self) -> dict[str, float]:
        """Forward FLOPs per text, padding included."""
        inner = self.language.flops(self.context)
        return {"text": inner["blocks"] + inner["attention"] + 2.0 * self.width * self.out}

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        self.language.check(f"{name}.language")


@dataclass(frozen=True)
class MobileTextSize:
    """MobileCLIP's text transformer. Released size: `PRESETS`.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: attention heads of a block.
        mlp_width: hidden channels of a block's MLP.
        out: channels of a text's embedding.
        context: tokens of a text.
        vocabulary: token ids are below it; the largest id of a text is its end.
        causal: whether a token sees none after it.
    """

    width: Count
    depth: Count
    heads: Count
    mlp_width: Count
    out: Count
    context: Count = 77
    vocabulary: Count = 49408
    causal: bool = True

    PRESETS: ClassVar[dict[str, "MobileTextSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.iv2clip.mobile"

    grid: ClassVar[None] = None
    rules: ClassVar[Rules] = MOBILE

    def build(self, compute: Compute) -> Any:
        """Returns the TextTower."""
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns nothing: there is no video tower inside."""
        return {}

    def flops(self) -> dict[str, float]:
        """Forward FLOPs per text; the causal half of the attention counts as all of it."""
        inner = costs.blocks(self.width, self.depth, self.mlp_width, self.context)
        return {"text": inner + 2.0 * self.width * self.out}

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        check_width(name, self.width, {"heads": self.heads})


# InternVL-C's text encoder: LLaMA-7B with the Chinese-Alpaca vocabulary, and factors on queries and values.
_LLAMA = LanguageSize(
    4096, 32, 32, 32, 11008, 49954, tied=True, epsilon=1e-6, lora=Lora(16, 32.0, ("q", "v"))
)
LanguageTextSize.PRESETS = {"internvl_c": LanguageTextSize(_LLAMA)}
MobileTextSize.PRESETS = {"mobileclip_b": MobileTextSize(512, 12, 8, 2048, 512)}

LANGUAGE_PAIRS = {
    name: DualSize(AlignedSize.PRESETS[f"{name}_clip"], LanguageTextSize.PRESETS["internvl_c"])
    for name in ("1B", "6B")
}
MOBILE_PAIRS = {
    name: DualSize(AlignedSize.PRESETS[f"{name}_clip"], MobileTextSize.PRESETS["mobileclip_b"])
    for name in ("S14", "B14", "L14")
}
