"""Flips, jitter and erasing of a clip (T, H, W, 3) uint8, the same for all of its frames."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ivjax.data_pipelines.augment.colour import contrast, saturate, turn_hue
from ivjax.data_pipelines.augment.value_tables import brighten
from ivjax.errors import UserError
from ivjax.experiment.ranges import Count, Share

_TRIES = 10  # as in the originals; then nothing is erased


def mirror(video: np.ndarray) -> np.ndarray:
    """Mirrors a clip left to right."""
    pixels = np.ascontiguousarray(video).view("V3")  # three bytes that move as one
    return np.ascontiguousarray(pixels[:, :, ::-1]).view(np.uint8)


@dataclass(frozen=True)
class ColourJitter:
    """Random changes of colour, in random order.

    Attributes:
        brightness, contrast, saturation: factors are drawn from 1 - x ... 1 + x.
        hue: rotations of the colour circle are drawn from -x ... x.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0

    def apply(self, video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(T, H, W, 3) uint8 -> the same shape; the four changes come in random order."""
        changes = (
            (brighten, self.brightness, 1.0),
            (contrast, self.contrast, 1.0),
            (saturate, self.saturation, 1.0),
            (turn_hue, self.hue, 0.0),
        )
        for number in rng.permutation(len(changes)):
            change, spread, centre = changes[number]
            if spread > 0:
                # A factor below 0 would give the negative; hue turns either way.
                least = max(centre - spread, 0.0) if centre else -spread
                video = change(video, float(rng.uniform(least, centre + spread)))
        return video


@dataclass(frozen=True)
class Erasing:
    """Erases a box of every frame, the same one in all frames of a clip.

    Attributes:
        probability: of erasing at all.
        area: the box's share of the frame.
        aspect: its height / width.
        mean, deviation: of the model's normalisation. The originals put N(0, 1) into normalised pixels;
            these bring it back to bytes. About 3 % of it lies beyond black or white and is clipped.
        fill: what the box becomes: `noise` of every pixel, one random `colour` for each frame, or the `mean`
            colour. The originals call them pixel, rand and const.
        boxes: how many boxes, which then share the area.
    """

    # The originals' defaults, in probing as well as in full tuning.
    probability: Share = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)
    fill: Literal["noise", "colour", "mean"] = "noise"
    boxes: Count = 1

    def __post_init__(self) -> None:
        if self.boxes < 1:
            raise UserError(f"erase.boxes={self.boxes}; it must be at least 1")

    def apply(self, video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(T, H, W, 3) uint8 -> the same shape."""
        if rng.random() >= self.probability:
            return video
        erased = video.copy()
        for _ in range(self.boxes):
            self._erase(erased, rng)
        return erased

    def _erase(self, video: np.ndarray, rng: np.random.Generator) -> None:
        """Erases one box in place; none if no box of the drawn proportions fits."""
        frames, height, width, _ = video.shape
        for _ in range(_TRIES):  # proportions are drawn anew each time
            area = height * width * rng.uniform(*self.area) / self.boxes
            aspect = math.exp(rng.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            # Smaller than the frame, as the originals: a whole frame is never erased.
            if 0 < h < height and 0 < w < width:
                top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
                video[:, top : top + h, left : left + w] = self._filling((frames, h, w, 3), rng)
                return

    def _filling(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Returns the filling of a box (T, h, w, 3): uint8, of that shape or one that spreads to it."""
        if self.fill == "mean":
            noise = np.zeros(3, np.float32)
        else:
            drawn = shape if self.fill == "noise" else (shape[0], 1, 1, 3)
            noise = rng.standard_normal(drawn, np.float32)
        noise *= 255 * np.array(self.deviation, np.float32)
        noise += 255 * np.array(self.mean, np.float32)
        return np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)
