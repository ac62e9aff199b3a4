"""The size of a classifier: any video tower, and what lies between it and the logits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count, Within
from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models.rules import linear, norm
from ivjax.models.sizes import Grid, VideoTowerSize

# What a classifier's head reads of its encoder.
Merge = Literal["proj", "cls_avg1", "cls_avgN", "cls_avg1_proj", "cls_avgN_proj", "avgN_maxN"]
MergeNorm = Literal["layer", "batch", "batch_plain"]  # how a classifier's head normalises that

HEAD: Rules = stated_in(
    __name__,
    (
        *linear("head"),
        *linear("down"),
        *linear("extra_mlp/fc[12]"),
        *norm("extra_mlp/norm"),
        *norm("fc_norm"),
        # The whole branch: batch norm also keeps its running mean and variance there.
        Rule("down_norm"),
    ),
)


@dataclass(frozen=True)
class ClassifierSize:
    """The size of a classifier.

    Attributes:
        encoder: size of the video tower below it.
        classes: number of classes.
        extra_mlp: whether the attentive probe's MLP works on the pooled feature.
        merge: what the head sees. `proj` is the pooled feature, or the mean of the patches where the tower
            pools nothing; `cls_avg1` the class token and the mean patch, `cls_avgN` the class token and the
            mean patch of each temporal position, brought to the pooled width; with `_proj` the pooled feature
            as well. `avgN_maxN`, which is no original's, is the mean patch of each temporal position and its
            channels' highest values, in which things of a few patches stand out.
        frame_tokens: to how many tokens HiCo merges the patches of each temporal position before `avgN_maxN`
            reads them, so that the encoder learns tokens that survive it (None: not merged).
        merge_heads: HiCo compares means over so many groups of a token's channels.
        merge_norm: how merged tokens are normalised: LayerNorm, batch norm, or batch norm without scale and
            bias.
    """

    encoder: VideoTowerSize
    classes: Annotated[int, Within(2)]
    extra_mlp: bool = False
    merge: Merge = "proj"
    frame_tokens: Count | None = None
    merge_heads: Count = 1
    merge_norm: MergeNorm = "layer"

    IMPLEMENTATION: ClassVar[str] = "ivjax.models.classifier"

    @property
    def pooled(self) -> int:
        """Width of the feature that is pooled from a clip."""
        # A tower that pools nothing is pooled by the mean of its patches, as wide as a token.
        return self.encoder.out or self.encoder.width

    @property
    def features(self) -> int:
        """Width of what the head sees."""
        if self.merge == "avgN_maxN":
            return 2 * self._times * self.encoder.width
        merged = {"avg1": 2 * self.encoder.width, "avgN": (1 + self._times) * self.pooled}
        pooled = self.pooled if "proj" in self.merge else 0
        return pooled + next((width for name, width in merged.items() if name in self.merge), 0)

    @property
    def grid(self) -> Grid:
        """The encoder's patch grid."""
        return self.encoder.grid

    @property
    def rules(self) -> Rules:
        """Rules of the classifier's parameters."""
        return (*prefixed("encoder", self.encoder.rules), *HEAD)

    def build(self, compute: Compute, dropout: float = 0.0) -> Any:
        """Returns the classifier; `dropout` is the share of the head's inputs that training drops."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, dropout)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns the encoder, which can stand alone."""
        return {"encoder": self.encoder}

    def trains_pooling(self) -> bool:
        """True: the head sees what the encoder pools."""
        return True

    def flops(self) -> dict[str, float]:
        """Forward FLOPs per clip, by layer."""
        head = 2.0 * self.features * self.classes
        if self.extra_mlp:
            # Two products with a hidden width of four times the feature.
            head += 16.0 * self.pooled**2
        if "cls_avgN" in self.merge:
            head += 2.0 * (1 + self._times) * self.encoder.width * self.pooled
        return self.encoder.flops() | {"head": head}

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        self.encoder.check(f"{name}.encoder")
        if "cls" in self.merge and not self.encoder.class_tokens:
            raise UserError(
                f"stage.{name}.merge={self.merge} needs a class token, which this encoder lacks; choose proj"
            )
        if self.frame_tokens is None:
            return
        if self.merge != "avgN_maxN":
            raise UserError(
                f"stage.{name}.frame_tokens={self.frame_tokens} is for merge=avgN_maxN and not {self.merge}; "
                "leave it out"
            )
        patches = self.encoder.patches // self._times
        if not 1 <= self.frame_tokens <= patches:
            raise UserError(
                f"stage.{name}.frame_tokens={self.frame_tokens}; a temporal position has {patches} patches"
            )
        if self.merge_heads < 1 or self.encoder.width % self.merge_heads:
            raise UserError(
                f"stage.{name}.merge_heads={self.merge_heads} does not divide {self.encoder.width} channels"
            )

    @property
    def _times(self) -> int:
        return self.encoder.grid[0]
