"""Sizes of InternVideo 1's multimodal branch: a pair of towers, and a decoder that writes captions."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models.dual_size import DualSize
from ivjax.models.rules import linear, norm
from ivjax.models.uniformerv2 import UniFormerV2Size
from ivjax.models.viclip.sizes import CLIP_PAIRS, TextSize

LARGEST_SCALE = math.log(100.0)  # CLIP's bound of the logarithm of what cosines are multiplied by

_DECODER: Rules = (
    Rule("queries", decays=True),
    Rule("blocks/*/kernel", (None, "fsdp", "tensor"), decays=True, depth="stacked"),
    Rule("blocks/*/scale", depth="stacked"),
    Rule("pool/attn/*/kernel", ("fsdp", "tensor"), decays=True),
    Rule("pool/*/scale"),
    *norm("norm_pooled"),
    *norm("norm_text"),
    *norm("head/norm1"),
    *linear("head/fc1"),
    *norm("head/norm2"),
    *linear("head/fc2"),
)

CAPTIONING: Rules = stated_in(
    __name__,
    (Rule("logit_scale", bounds=(0.0, LARGEST_SCALE)), *prefixed("caption_decoder", _DECODER)),
)


@dataclass(frozen=True)
class CaptionDecoderSize:
    """The decoder of captions; it is as wide as the text tower.

    Attributes:
        depth: pairs of a block of words and one that looks at the clip.
        heads: query heads; keys and values have one head that all share.
        queries: tokens that a clip is pooled to.
    """

    depth: Count = 4
    heads: Count = 8
    queries: Count = 256

    def flops(self, width: int, seen: int, seen_width: int, words: int, vocabulary: int) -> float:
        """Forward FLOPs of `words` words that look at `seen` tokens of `seen_width` channels."""
        head, hidden = width // self.heads, 4 * width
        pooling = self.queries * (2 * width**2 + 2 * seen * width) + 2 * seen * seen_width * head
        gated = 3 * width * hidden
        block = words * (2 * width**2 + 2 * width * head + gated + 2 * words * width)
        cross = words * (2 * width**2 + gated + 2 * self.queries * width) + 2 * self.queries * width * head
        return 2.0 * (pooling + self.depth * (block + cross) + words * width * (width + vocabulary))


@dataclass(frozen=True)
class CaptioningSize(DualSize):
    """The size of a pair of towers with a decoder that writes captions.

    Attributes:
        vision: size of the video tower, which must pool.
        text: size of the text tower, of the same `out`.
        frames: None: clips have the video tower's own number of frames.
        decoder: size of the decoder.
    """

    text: TextSize
    decoder: CaptionDecoderSize = CaptionDecoderSize()

    PRESETS: ClassVar[dict[str, "CaptioningSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.internvideo1.captioning"

    @property
    def rules(self) -> Rules:
        """Rules of both towers' parameters, of the decoder's, and of the scale between the towers."""
        return (*CAPTIONING, *prefixed("vision", self.vision.rules), *prefixed("text", self.text.rules))

    def build(self, compute: Compute, temperature: float = 0.07, bias: float | None = None) -> Any:
        """Returns the CaptioningTower; its scale starts at 1 / temperature. It has no bias."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, temperature)

    def decoding_flops(self) -> float:
        """Forward FLOPs of the decoder per clip."""
        vision, text = self.vision, self.text
        seen = vision.class_tokens + vision.patches
        return self.decoder.flops(text.width, seen, vision.width, text.context - 1, text.vocabulary)

    def check(self) -> None:
        """Raises if the parts do not go together."""
        super().check()
        if self.frames not in (None, self.vision.frames):
            raise UserError(
                "stage.frames must be none: the decoder reads one clip of the video tower's frames"
            )
        width, heads = self.text.width, self.decoder.heads
        if width % (2 * heads):
            raise UserError(
                f"stage.decoder.heads={heads} does not divide a width of {width} into even heads; change it"
            )


def _released(name: str, heads: int) -> CaptioningSize:
    text, vision = CLIP_PAIRS[name].text, UniFormerV2Size.PRESETS[name]
    assert isinstance(text, TextSize)
    return CaptioningSize(replace(vision, projection=text.out), text, decoder=CaptionDecoderSize(heads=heads))


CaptioningSize.PRESETS = {"B16": _released("B16", 8), "L14": _released("L14", 12)}
