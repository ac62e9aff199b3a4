"""RandAugment with the 15 increasing operations; one draw for all frames of a clip."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ivjax.data_pipelines.augment import affine, colour, value_tables
from ivjax.errors import UserError
from ivjax.experiment.ranges import Count, Share

_MOST = 10.0  # the greatest magnitude

Operation = Callable[[np.ndarray, float, float], np.ndarray]  # (clip, level, sign) -> the changed clip


@dataclass(frozen=True)
class RandAugment:
    """Random ones of 15 operations, drawn with replacement.

    The originals write it as rand-m7-n4-mstd0.5-inc1, which `parse` reads; PRESETS is what they train with.
    They apply it to whole frames before the crop. Here the decoder crops and resizes first, so an operation
    works on fewer pixels, and rotations and shifts are relative to the crop.

    Attributes:
        magnitude: 0 to 10: how much an operation changes.
        operations: how many are drawn.
        deviation: standard deviation of the magnitude.
        probability: with which each drawn operation is applied.
    """

    magnitude: float = 7.0
    operations: Count = 4
    deviation: float = 0.5
    # No part of the original's string: all of its operations have it.
    probability: Share = 0.5

    PRESETS: ClassVar[dict[str, "RandAugment"]]

    def __post_init__(self) -> None:
        if not 0 <= self.magnitude <= _MOST or self.operations < 0 or self.deviation < 0:
            raise UserError(f"{self}: magnitude must be 0 to 10, operations and deviation at least 0")

    @classmethod
    def parse(cls, text: str) -> "RandAugment":
        """Reads a string such as rand-m7-n4-mstd0.5-inc1."""
        name, *parts = text.split("-")
        letters = [part.rstrip("0123456789.") for part in parts]
        values = {key: part[len(key) :] for key, part in zip(letters, parts, strict=True)}
        if name != "rand" or set(values) - {"m", "n", "mstd", "inc"} or values.get("inc") != "1":
            raise UserError(f"{text!r} is no RandAugment; write for example rand-m7-n4-mstd0.5-inc1")
        try:
            return cls(float(values.get("m", 10)), int(values.get("n", 2)), float(values.get("mstd", 0)))
        except ValueError:
            raise UserError(f"{text!r} lacks a number; write for example rand-m7-n4-mstd0.5-inc1") from None

    def apply(self, video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(T, H, W, 3) uint8 -> the same shape."""
        names = list(OPERATIONS)
        for choice in rng.integers(len(names), size=self.operations):
            # Everything is drawn whether or not it is used: an option then changes no other draw.
            chance, sign = rng.random(), 1.0 if rng.random() < 0.5 else -1.0
            magnitude = min(max(rng.normal(self.magnitude, self.deviation), 0.0), _MOST)
            if chance < self.probability:
                video = OPERATIONS[names[choice]](video, magnitude / _MOST, sign)
        return video


RandAugment.PRESETS = {
    text: RandAugment.parse(text) for text in ("rand-m7-n4-mstd0.5-inc1", "rand-m5-n2-mstd0.25-inc1")
}


def _enhance(change: Callable[[np.ndarray, float], np.ndarray]) -> Operation:
    """Turns a level and a sign into a factor around 1."""
    # 0.9, so that the factor stays within 0.1 and 1.9 as in the originals' increasing operations.
    return lambda video, level, sign: change(video, 1.0 + sign * level * 0.9)


OPERATIONS: dict[str, Operation] = {  # level is 0 to 1, sign 1 or -1
    "auto_contrast": lambda video, level, sign: value_tables.auto_contrast(video),
    "equalize": lambda video, level, sign: value_tables.equalize(video),
    "invert": lambda video, level, sign: value_tables.invert(video),
    "rotate": lambda video, level, sign: affine.rotate(video, sign * level * 30),
    # Increasing (inc1): a higher level keeps fewer bits, and inverts more values below.
    "posterize": lambda video, level, sign: value_tables.posterize(video, 4 - int(level * 4)),
    "solarize": lambda video, level, sign: value_tables.solarize(video, 256 - int(level * 256)),
    "solarize_add": lambda video, level, sign: value_tables.solarize_add(video, int(level * 110)),
    "colour": _enhance(colour.saturate),
    "contrast": _enhance(colour.contrast),
    "brightness": _enhance(value_tables.brighten),
    "sharpness": _enhance(colour.sharpen),
    "shear_x": lambda video, level, sign: affine.shear_x(video, sign * level * 0.3),
    "shear_y": lambda video, level, sign: affine.shear_y(video, sign * level * 0.3),
    # Relative to the frame; the originals' absolute limit, which their options also set, goes unused.
    "translate_x": lambda video, level, sign: affine.translate_x(video, sign * level * 0.45),
    "translate_y": lambda video, level, sign: affine.translate_y(video, sign * level * 0.45),
}
