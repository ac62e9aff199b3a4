"""Augmentation as one config value: a crop, then changes of the pixels in a fixed order."""

from dataclasses import dataclass

import numpy as np

from ivjax.data_pipelines.augment.geometry import Crop, MultiScaleCrop, RandomResizedCrop, Whole
from ivjax.data_pipelines.augment.pixels import ColourJitter, Erasing
from ivjax.data_pipelines.augment.randaugment import RandAugment
from ivjax.data_pipelines.decode import Box


@dataclass(frozen=True)
class Augment:
    """The crop is cut and resized by the decoder. RandAugment therefore sees frames of the final size.

    flip: probability of mirroring a clip left to right; 0 where left and right have a meaning.
    """

    crop: Crop = Whole()
    flip: float = 0.0
    rand: RandAugment | None = None
    jitter: ColourJitter | None = None
    erase: Erasing | None = None

    def box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """Which part of frames of width x height is resized."""
        return self.crop.box(width, height, rng)

    def pixels(self, video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(T, H, W, 3) uint8 -> the same shape."""
        for change in (self.rand, self.jitter):
            if change is not None:
                video = change.apply(video, rng)
        if self.flip and rng.random() < self.flip:
            video = video[:, :, ::-1]
        return video if self.erase is None else self.erase.apply(video, rng)


TEST = Augment()
TRAIN_STAGE1 = Augment(MultiScaleCrop(), flip=0.5)
TRAIN_STAGE2 = Augment(RandomResizedCrop(scale=(0.5, 1.0)), flip=0.5)
FINETUNE = Augment(
    RandomResizedCrop(scale=(0.08, 1.0)), flip=0.5, rand=RandAugment(7.0, 4, 0.5), erase=Erasing()
)
PROBE = Augment(
    RandomResizedCrop(scale=(0.08, 1.0)), flip=0.5, rand=RandAugment(5.0, 2, 0.25), erase=Erasing()
)
