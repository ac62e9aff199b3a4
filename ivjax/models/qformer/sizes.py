"""Sizes of the Q-Former."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count, Rate
from ivjax.experiment.rules import Rules
from ivjax.models import costs
from ivjax.models.qformer.rules import QFORMER
from ivjax.models.sizes import Grid, VideoTowerSize


@dataclass(frozen=True)
class QFormerSize:
    """Everything that shapes a Q-Former with the linear layer behind it. The defaults are BERT-base's.

    Attributes:
        width: channels of the tower's tokens, class tokens included.
        out: channels of the language model's tokens.
        hidden: channels of queries and words.
        depth: layers.
        heads: attention heads of a layer.
        mlp_width: hidden channels of the MLPs.
        queries: learned queries of the first training stage.
        extra_queries: learned queries that later stages add.
        reads_text: whether it also reads what is asked.
        vocabulary: token ids of the words are below it.
        places: words of a text, at most.
        cross_every: layers 0, cross_every, ... look at the tower's tokens.
        dropout: the share of numbers, and of attention's weights, that training drops.
        drop_path: the rate at which training drops branches of the last layer; from 0 it rises to that.
    """

    width: Count
    out: Count
    hidden: Count = 768
    depth: Count = 12
    heads: Count = 12
    mlp_width: Count = 3072
    queries: Count = 32
    extra_queries: int = 64
    reads_text: bool = True
    vocabulary: Count = 30523
    places: Count = 512
    cross_every: Count = 2
    dropout: Rate = 0.0
    drop_path: Rate = 0.0

    IMPLEMENTATION: ClassVar[str] = "ivjax.models.qformer.network"

    clip_frames: ClassVar[int] = 1
    grid: ClassVar[None] = None
    rules: ClassVar[Rules] = QFORMER

    @property
    def crosses(self) -> int:
        """Layers that look at the tower's tokens."""
        return -(-self.depth // self.cross_every)

    def build(self, compute: Compute) -> Any:
        """Returns the Bridge."""
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def tokens(self, frames: int, grid: Grid) -> int:
        """Visual tokens that a video of so many frames becomes: all queries for each segment of the tower."""
        return (frames // grid[0]) * (self.queries + self.extra_queries)

    def unmerged(self) -> None:
        """None: queries read the tower's tokens, and none are merged."""

    def joined_frames(self, frames: int, segment: int) -> int:
        """The frames of a segment; see BridgeSize.joined_frames."""
        return segment

    def flops(self, frames: int, grid: Grid) -> float:
        """Forward FLOPs per video of so many frames, without a text."""
        queries, seen = self.queries + self.extra_queries, grid[0] * grid[1] * grid[2]
        # Queries and projection of the cross-attention on the queries, keys and values on the tower's tokens.
        cross = 4.0 * queries * self.hidden**2 + 4.0 * seen * self.width * self.hidden
        cross += 4.0 * queries * seen * self.hidden
        layers = costs.blocks(self.hidden, self.depth, self.mlp_width, queries)
        one = layers + self.crosses * cross + 2.0 * queries * self.hidden * self.out
        return frames // grid[0] * one

    def text_flops(self, words: int) -> float:
        """Forward FLOPs of so many words among themselves."""
        return costs.blocks(self.hidden, self.depth, self.mlp_width, words)

    def check(self, name: str, vision: VideoTowerSize) -> None:
        """Raises if the bridge at `stage.<name>` cannot stand behind the tower."""
        if self.width != vision.width:
            raise UserError(
                f"stage.{name}.width={self.width}, but the tower's tokens have {vision.width} channels; "
                "make them equal"
            )
        for what, given in (
            ("heads", self.heads),
            ("queries", self.queries),
            ("cross_every", self.cross_every),
        ):
            if given < 1:
                raise UserError(f"stage.{name}.{what}={given} must be 1 or more")
        for what, rate in (("dropout", self.dropout), ("drop_path", self.drop_path)):
            if not 0 <= rate < 1:
                raise UserError(f"stage.{name}.{what}={rate} is no share; give 0 or more, below 1")
        if self.hidden % self.heads:
            raise UserError(
                f"stage.{name}.hidden={self.hidden} does not divide into {self.heads} heads; "
                f"choose a multiple of {self.heads}"
            )
