"""Flips, jitter and erasing of a clip (T, H, W, 3) uint8: one draw for all of its frames."""

import math
from dataclasses import dataclass

import numpy as np

from ivjax.data_pipelines.augment.colour import contrast, saturate, turn_hue
from ivjax.data_pipelines.augment.tables import brighten

_TRIES = 10


def mirror(video: np.ndarray) -> np.ndarray:
    """Left becomes right."""
    pixels = np.ascontiguousarray(video).view("V3")  # three bytes that move as one
    return np.ascontiguousarray(pixels[:, :, ::-1]).view(np.uint8)


@dataclass(frozen=True)
class ColourJitter:
    """Random brightness, contrast, saturation (factors within 1 +- x) and hue (turns within +- x)."""

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
                least = max(centre - spread, 0.0) if centre else -spread
                video = change(video, float(rng.uniform(least, centre + spread)))
        return video


@dataclass(frozen=True)
class Erasing:
    """With `probability`, a box of every frame becomes noise, each frame's its own.

    area: the box's share of the frame; aspect: its height / width. The originals put N(0, 1) into
    normalised pixels. `mean` and `deviation` are those of the model's normalisation and bring the noise
    back to bytes: about 3 % of it lies beyond black or white and is clipped.
    """

    probability: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def apply(self, video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(T, H, W, 3) uint8 -> the same shape."""
        if rng.random() >= self.probability:
            return video
        frames, height, width, _ = video.shape
        for _ in range(_TRIES):
            area = height * width * rng.uniform(*self.area)
            aspect = math.exp(rng.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < h < height and 0 < w < width:
                top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
                erased = video.copy()
                erased[:, top : top + h, left : left + w] = self._noise((frames, h, w, 3), rng)
                return erased
        return video

    def _noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        noise = rng.standard_normal(shape, np.float32)
        noise *= 255 * np.array(self.deviation, np.float32)
        noise += 255 * np.array(self.mean, np.float32)
        return np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)
