"""The field of pictures: which frames of a clip, which crop, which colours."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ivjax.data_pipelines.augment.recipe import TEST, Augment
from ivjax.data_pipelines.fields.field import ArraySpec, ReadableClip, RowDraw, SingleArray
from ivjax.data_pipelines.sampling import FrameRule, rule_for_tests
from ivjax.errors import UserError


@dataclass(frozen=True)
class Frames(SingleArray):
    """Frames of a clip: (T, H, W, 3) uint8. The stage says how large, `rule` must give its T.

    Attributes:
        rule: which frames are read.
        augment: crop, flip and colours; one draw for all frames of a clip.
    """

    rule: FrameRule
    augment: Augment = TEST

    def check(self, path: str, wanted: Mapping[str, ArraySpec]) -> None:
        """Raises UserError if the stage wants another number of frames than the rule gives."""
        for spec in wanted.values():
            if spec.shape[0] != self.rule.frames:
                raise UserError(
                    f"{path}.rule gives {self.rule.frames} frames and the stage wants {spec.shape[0]}; "
                    "make them equal"
                )

    def array(self, clip: ReadableClip, spec: ArraySpec, draw: RowDraw) -> np.ndarray:
        """Returns the chosen frames, cropped, resized and augmented: (T, H, W, 3) uint8."""
        probe = clip.video.probe
        # Repeats of a clip show the same frames: the originals augment what they have decoded once.
        chosen = self.rule.choose(probe.frames, probe.fps, draw.shared("frames"))
        # One box for all frames: a crop that moves would look like a camera that does.
        box = self.augment.box(probe.width, probe.height, draw("crop"))
        video = clip.video.read(chosen, box, (spec.shape[1], spec.shape[2]))
        return self.augment.pixels(video, draw("pixels"))

    def for_tests(self) -> "Frames":
        """Returns the field that reads clips in tests as this one does in training: it draws nothing."""
        return Frames(rule_for_tests(self.rule), self.augment.for_tests())
