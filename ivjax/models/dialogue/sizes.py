"""The size of a dialogue model: any vision tower, a bridge and a language model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np

from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.computing import Compute
from ivjax.experiment.ranges import Within
from ivjax.experiment.rules import Rules, prefixed
from ivjax.models.decoder.sizes import LanguageSize
from ivjax.models.sizes import BridgeSize, Grid, VideoTowerSize


@dataclass(frozen=True)
class DialogueSize:
    """The size of a model that answers questions about videos. Released sizes: `PRESETS` in presets.py.

    Attributes:
        vision: size of the vision tower. A video is read in segments of its number of frames.
        bridge: size of what makes visual tokens of the tower's.
        language: size of the language model.
        visual_token: the id at whose places in a prompt visual tokens stand. It need not be a word.
        start_vector: the id of a text's start whose slot holds a vector of that number, as in the originals
            of VideoChat2, and not its embedding (None: its embedding).
    """

    vision: VideoTowerSize
    bridge: BridgeSize
    language: LanguageSize
    visual_token: Annotated[int, Within(-math.inf)] = -200
    start_vector: int | None = None

    IMPLEMENTATION: ClassVar[str] = "ivjax.models.dialogue.model"

    @property
    def grid(self) -> Grid:
        """The vision tower's patch grid."""
        return self.vision.grid

    @property
    def rules(self) -> Rules:
        """Rules of all three parts' parameters."""
        return (
            *prefixed("vision", self.vision.rules),
            *prefixed("bridge", self.bridge.rules),
            *prefixed("language", self.language.rules),
        )

    @property
    def least_frames(self) -> int:
        """Frames of the shortest video: those that the tower reads and the bridge merges."""
        tubelet = self.vision.frames // self.vision.grid[0]
        return math.lcm(self.vision.frames, tubelet * (self.bridge.clip_frames or 1))

    @property
    def vocabulary(self) -> int:
        """The words of the language model: token ids are below it."""
        return self.language.vocabulary

    def build(self, compute: Compute) -> Any:
        """Returns the DialogueModel."""
        return late.call(self.IMPLEMENTATION, "build", self, compute)

    def encoders(self) -> Mapping[str, VideoTowerSize]:
        """Returns the vision tower, which can stand alone."""
        return {"vision": self.vision}

    def branches(self) -> Mapping[str, Any]:
        """Returns the sizes of what a weight file may fill beside the vision tower."""
        return {"bridge": self.bridge, "language": self.language}

    def trains_pooling(self) -> bool:
        """False: a bridge reads tokens."""
        return False

    def segment(self, frames: int) -> tuple[int, Grid]:
        """Frames and patch grid of one segment of a video of so many frames; raises if none are whole."""
        times, rows, columns = self.vision.grid
        if frames == 1 and self.vision.reads_images:
            return 1, (1, rows, columns)
        own = self.vision.frames
        if frames < 1:
            raise UserError(f"a video of {frames} frames shows nothing; give {own} frames or a multiple")
        if frames % own:
            fewer = frames - frames % own
            raise UserError(
                f"a video of {frames} frames does not divide into the tower's clips of {own}; "
                f"take {fewer or own} frames or {fewer + own}"
            )
        return own, (times, rows, columns)

    def times(self, frames: int) -> int:
        """Places of the tower's patches in time, of a video of so many frames; they are a bridge's frames."""
        own, grid = self.segment(frames)
        return frames // own * grid[0]

    def visual_tokens(self, frames: int) -> int:
        """Visual tokens that a video of so many frames becomes."""
        return self.bridge.tokens(self.times(frames), self.segment(frames)[1])

    def unmerged_tokens(self, frames: int) -> int:
        """Tokens of the tower, neighbours joined, of which the bridge makes the visual tokens of a video."""
        own, grid = self.segment(frames)
        return frames // own * math.prod(grid) // getattr(self.bridge, "shuffle", 1) ** 2

    def unmerged(self) -> "DialogueSize | None":
        """Returns the size without merging, of the same parameters; None if there is none to leave out."""
        bridge = self.bridge.unmerged()
        return None if bridge is None else replace(self, bridge=bridge)

    def clip_frames(self, frames: int) -> int:
        """Frames of a clip of a video of so many frames: each becomes visual tokens by itself."""
        times = self.times(frames)
        return frames // times * self.bridge.joined_frames(times, self.segment(frames)[1][0])

    def flops(self, frames: int, tokens: int) -> dict[str, float]:
        """Forward FLOPs of one video of so many frames in a text of so many tokens, by layer."""
        own, grid = self.segment(frames)
        vision = sum(self.vision.flops().values()) * frames / own
        return {
            "vision": vision,
            "bridge": self.bridge.flops(self.times(frames), grid),
            **self.language.flops(tokens),
        }

    def check(self, name: str) -> None:
        """Raises if the size at `stage.<name>` is impossible."""
        self.vision.check(f"{name}.vision")
        self.bridge.check(f"{name}.bridge", self.vision)
        self.language.check(f"{name}.language")
        if self.bridge.out != self.language.width:
            raise UserError(
                f"stage.{name}.bridge.out={self.bridge.out}, but the language model's tokens have "
                f"{self.language.width} channels; make them equal"
            )

    def check_video(self, shape: tuple[int, ...]) -> None:
        """Raises if videos of this shape cannot be seen: they are (V, F, H, W, 3)."""
        if len(shape) != 5 or shape[-1] != 3:
            raise UserError(f"video must be (videos, frames, height, width, 3), got {shape}")
        self.visual_tokens(shape[1])
        if shape[2:4] != self.vision.image:
            height, width = self.vision.image
            raise UserError(
                f"the frames are {shape[2]} x {shape[3]} and the tower reads {height} x {width}; "
                "resize them, or change vision.image"
            )

    def check_prompt(self, ids: np.ndarray, visual: int) -> None:
        """Raises if a row of a prompt (B, L) has not as many places for visual tokens as there are."""
        for row, places in enumerate(np.sum(np.asarray(ids) == self.visual_token, axis=-1)):
            if places != visual:
                raise UserError(
                    f"row {row} of the prompt has {places} places for visual tokens (id "
                    f"{self.visual_token}), and its videos become {visual}; write the id as often"
                )
