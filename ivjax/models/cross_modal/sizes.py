"""Size of stage 2's model: a video tower, a text tower with fusion layers, and maybe an audio tower."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models.beats import BeatsSize
from ivjax.models.bert import FusionBertSize
from ivjax.models.dual_size import DualSize
from ivjax.models.internvideo2 import AlignedSize, FeatureHeads, PooledHead
from ivjax.models.internvideo2.rules import STUDENT
from ivjax.models.rules import linear, norm
from ivjax.models.sizes import AudioTowerSize, Compared

HEADS: Rules = stated_in(
    __name__,
    (
        *(rule for name in ("vision_proj", "audio_proj", "both_proj") for rule in linear(name)),
        # Two logits are too few to be split.
        *(Rule(f"{name}_match/kernel", decays=True) for name in ("video", "audio", "both")),
        Rule("*_match/bias"),
        *(rule for name in ("see", "hear") for rule in (*linear(f"{name}/fc"), *norm(f"{name}/norm"))),
        Rule("clip_img_pos_embed", (None, None, "fsdp")),
        # Heads that predict a teacher are the student's of stage 1.
        *(rule for rule in STUDENT if rule.pattern.startswith(("clip_", "final_clip"))),
    ),
)


@dataclass(frozen=True)
class CrossModalSize(DualSize):
    """Everything that shapes a stage-2 model. Released sizes: `PRESETS`.

    Attributes:
        audio: size of the audio tower (None: there is none).
        joint_width: channels that tokens of clips and of sounds are brought to before texts look at them
            (None: texts look at the video tower's own).
        matches: what has a head that tells whether it belongs to a text.
        fused: whether clip and sound together have an embedding.
        clip: heads that predict a teacher's layers (None: none).
        pooled: head that predicts its pooled feature (None: none).
    """

    text: FusionBertSize
    audio: AudioTowerSize | None = None
    joint_width: Count | None = None
    matches: tuple[Compared, ...] = ("video",)
    fused: bool = False
    clip: FeatureHeads | None = None
    pooled: PooledHead | None = None

    PRESETS: ClassVar[dict[str, "CrossModalSize"]]
    IMPLEMENTATION: ClassVar[str] = "ivjax.models.cross_modal.towers"

    @property
    def out(self) -> int:
        """Channels of all embeddings."""
        return self.text.out

    @property
    def seen_width(self) -> int:
        """Channels of the tokens that texts look at."""
        return self.vision.width if self.joint_width is None else self.joint_width

    @property
    def rules(self) -> Rules:
        """Rules of all parameters."""
        audio = prefixed("audio", self.audio.rules) if self.audio else ()
        return (*super().rules, *HEADS, *audio)

    def build(self, compute: Compute, temperature: float = 0.07, bias: float | None = None) -> Any:
        """Returns the CrossModalTowers; fresh parameters start with this temperature."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, temperature)

    def branches(self) -> Mapping[str, Any]:
        """Sizes of the towers beside the video tower, by branch of the parameters."""
        return {"text": self.text} | ({"audio": self.audio} if self.audio else {})

    def check(self) -> None:
        """Raises if the parts do not go together."""
        vision, text = self.vision, self.text
        vision.check("vision")
        text.check("text")
        if vision.out is None:
            raise UserError("stage.vision pools nothing, so clips have no embedding; choose another tower")
        if text.seen != self.seen_width:
            name = "stage.vision.width" if self.joint_width is None else "stage.joint_width"
            raise UserError(
                f"stage.text.seen={text.seen}, but texts look at tokens of {name}={self.seen_width}; "
                "make them equal"
            )
        if self.audio is None:
            if self.fused or set(self.matches) - {"video"}:
                raise UserError(
                    "stage.audio is none, so nothing is heard; give an audio tower, or no loss of it"
                )
        else:
            self.audio.check("audio")
            if self.joint_width is None:
                raise UserError(
                    "stage.joint_width is none, but clips and sounds need tokens of one width; give a number"
                )


# Heads of an alignment that the released stage 2 keeps and does not train.
_ALIGNED = FeatureHeads(3200, 6), PooledHead(768)
_LARGE = FusionBertSize.PRESETS["large"]
CrossModalSize.PRESETS = {
    "1B": CrossModalSize(AlignedSize.PRESETS["1B_stage2"], _LARGE, clip=_ALIGNED[0], pooled=_ALIGNED[1]),
    "6B": CrossModalSize(
        AlignedSize.PRESETS["6B_stage2"],
        replace(_LARGE, out=768, context=40, seen=768),
        audio=BeatsSize.PRESETS["iter3"],
        joint_width=768,
        matches=("video", "both"),
        fused=True,
        clip=_ALIGNED[0],
        pooled=_ALIGNED[1],
    ),
}
