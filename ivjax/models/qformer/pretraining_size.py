"""The size of a vision tower and a Q-Former that learn from captions, before there is a language model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Count
from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models.qformer.sizes import QFormerSize
from ivjax.models.rules import linear, norm
from ivjax.models.sizes import Grid, VideoTowerSize

RULES: Rules = stated_in(
    __name__,
    (
        Rule("temperature"),
        Rule("time_embed", (None, None, None, "fsdp"), decays=True),
        *(rule for name in ("video", "text", "match", "caption") for rule in linear(f"heads/{name}")),
        *norm("heads/caption_norm"),
        Rule("heads/word_bias"),
    ),
)


@dataclass(frozen=True)
class QueryPretrainSize:
    """The size of a vision tower and a Q-Former with the heads of its first training.

    Attributes:
        vision: size of the vision tower.
        bridge: size of the Q-Former. The linear layer behind it is no part of this model.
        embed: channels of the embeddings of clips and texts.
    """

    vision: VideoTowerSize
    bridge: QFormerSize
    embed: Count = 768

    IMPLEMENTATION: ClassVar[str] = "ivjax.models.qformer.pretraining"

    @property
    def grid(self) -> Grid:
        """The vision tower's patch grid."""
        return self.vision.grid

    @property
    def rules(self) -> Rules:
        """Rules of all parameters."""
        return (*RULES, *prefixed("vision", self.vision.rules), *prefixed("bridge", self.bridge.rules))

    def build(self, compute: Compute, temperature: float = 0.07) -> Any:
        """Returns the QueryPretrainModel; fresh parameters start with this temperature."""
        return late.call(self.IMPLEMENTATION, "build", self, compute, temperature)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns the vision tower, which can stand alone."""
        return {"vision": self.vision}

    def branches(self) -> Mapping[str, Any]:
        """Returns the sizes of what a weight file may fill beside the vision tower."""
        return {"bridge": self.bridge}

    def trains_pooling(self) -> bool:
        """False: the Q-Former reads tokens."""
        return False

    def flops(self, frames: int, words: int) -> dict[str, float]:
        """Forward FLOPs per clip of so many frames and its text, by layer."""
        vision, bridge = self.vision, self.bridge
        times, rows, columns = vision.grid
        grid = (min(frames, times), rows, columns)
        patches = grid[0] * rows * columns
        # Clip and text for themselves and with each other, and two more pairs that do not belong together.
        reading = bridge.flops(frames, (frames, *grid[1:])) + bridge.text_flops(words)
        return {
            "vision": sum(vision.flops(patches).values()),
            "bridge": 4 * reading + bridge.text_flops(words),
            "caption": 2.0 * words * bridge.hidden * (bridge.hidden + bridge.vocabulary),
        }

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        self.vision.check(f"{name}.vision")
        self.bridge.check(f"{name}.bridge", self.vision)
        if not self.bridge.reads_text or self.bridge.extra_queries:
            raise UserError(
                f"stage.{name}.bridge learns from captions with its first queries; set reads_text=true and "
                "extra_queries=0"
            )
