"""Augmentation as one config value: a crop, then changes of the pixels in a fixed order."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ivjax.data_pipelines.augment.geometry import (
    Box,
    Crop,
    MultiScaleCrop,
    RandomResizedCrop,
    View,
    Whole,
    crop_for_tests,
)
from ivjax.data_pipelines.augment.pixels import ColourJitter, Erasing, mirror
from ivjax.data_pipelines.augment.randaugment import RandAugment
from ivjax.errors import UserError
from ivjax.experiment.ranges import Share


@dataclass(frozen=True)
class Augment:
    """A crop, and changes of the pixels in this order: RandAugment, jitter, flip, erasing.

    The decoder crops and resizes, so the changes see frames of the final size. PRESETS is what the originals
    train and test with.

    Attributes:
        crop: the part of the frame that is resized to the stage's size.
        flip: probability of mirroring a clip left to right; 0 where left and right have a meaning.
        rand: RandAugment.
        jitter: brightness, contrast, saturation and hue.
        erase: boxes that are erased.
    """

    crop: Crop = Whole()
    flip: Share = 0.0
    rand: RandAugment | None = None
    jitter: ColourJitter | None = None
    erase: Erasing | None = None

    PRESETS: ClassVar[dict[str, "Augment"]]

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise UserError(f"augment.flip={self.flip:g}; a probability lies between 0 and 1")

    def box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """Returns the part of frames of width x height that is resized."""
        return self.crop.box(width, height, rng)

    def pixels(self, video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the changed pixels: (T, H, W, 3) uint8 -> the same shape."""
        # The originals' order. Erasing comes last, or RandAugment would change the noise.
        for change in (self.rand, self.jitter):
            if change is not None:
                video = change.apply(video, rng)
        if self.flip and rng.random() < self.flip:
            video = mirror(video)
        return video if self.erase is None else self.erase.apply(video, rng)

    def for_tests(self) -> "Augment":
        """Returns the crop of tests alone: what was trained so is tested without changes of the pixels."""
        return Augment(crop_for_tests(self.crop))


TEST = Augment()
VALIDATE = Augment(View())  # the centre; View(number, views) for testing in several views
TRAIN_STAGE1 = Augment(MultiScaleCrop(), flip=0.5)
TRAIN_STAGE2 = Augment(RandomResizedCrop(scale=(0.5, 1.0)), flip=0.5)
FINETUNE = Augment(
    # The usual range of ImageNet classifiers.
    RandomResizedCrop(scale=(0.08, 1.0)),
    flip=0.5,
    rand=RandAugment.PRESETS["rand-m7-n4-mstd0.5-inc1"],
    erase=Erasing(),
)
PROBE = replace(FINETUNE, rand=RandAugment.PRESETS["rand-m5-n2-mstd0.25-inc1"])

Augment.PRESETS = {
    "test": TEST,
    "validate": VALIDATE,
    "train_stage1": TRAIN_STAGE1,
    "train_stage2": TRAIN_STAGE2,
    "finetune": FINETUNE,
    "probe": PROBE,
}
