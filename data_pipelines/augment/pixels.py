"""Changes of the pixels of a clip (T, H, W, 3) uint8, the same for all its frames unless said otherwise."""

import math
from dataclasses import dataclass

import numpy as np

_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
_DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)
_TRIES = 10


@dataclass(frozen=True)
class Erasing:
    """With `probability`, a box of every frame becomes noise, each frame's its own.

    The originals draw N(0, 1) into normalised pixels; here it is brought back to bytes and clipped.
    """

    probability: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)

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
                noise = rng.standard_normal((frames, h, w, 3), np.float32)
                erased = video.copy()
                filled = np.clip((noise * _DEVIATION + _MEAN) * 255, 0, 255).round()
                erased[:, top : top + h, left : left + w] = filled.astype(np.uint8)
                return erased
        return video


@dataclass(frozen=True)
class ColourJitter:
    """Random brightness, contrast, saturation (factors within 1 +- x) and hue (turns within +- x)."""

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0

    def apply(self, video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(T, H, W, 3) uint8 -> the same shape; the four changes come in random order."""
        changes = {
            "brightness": (brighten, self.brightness, 1.0),
            "contrast": (contrast, self.contrast, 1.0),
            "saturation": (saturate, self.saturation, 1.0),
            "hue": (turn_hue, self.hue, 0.0),
        }
        for name in rng.permutation(list(changes)):
            change, spread, centre = changes[str(name)]
            if spread > 0:
                least = centre - spread if name == "hue" else max(centre - spread, 0.0)
                video = change(video, float(rng.uniform(least, centre + spread)))
        return video


def luma(video: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) uint8, rounded as image libraries do."""
    red, green, blue = (video[..., channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)


def blend(ground: np.ndarray, video: np.ndarray, factor: float) -> np.ndarray:
    """ground + factor * (video - ground), clipped to bytes; `ground` broadcasts."""
    ground = np.asarray(ground, np.float32)
    mixed = video.astype(np.float32)
    mixed -= ground
    mixed *= np.float32(factor)
    mixed += ground
    return np.clip(mixed, 0, 255, out=mixed).astype(np.uint8)


def brighten(video: np.ndarray, factor: float) -> np.ndarray:
    """0 is black, 1 the clip itself."""
    table = np.clip(np.arange(256) * factor, 0, 255).astype(np.uint8)
    return table[video]


def contrast(video: np.ndarray, factor: float) -> np.ndarray:
    """0 is each frame's mean grey, 1 the clip itself."""
    means = (luma(video).mean((1, 2), keepdims=True) + 0.5).astype(np.int64)
    return blend(means[..., None], video, factor)


def saturate(video: np.ndarray, factor: float) -> np.ndarray:
    """0 is grey, 1 the clip itself."""
    return blend(luma(video)[..., None], video, factor)


def sharpen(video: np.ndarray, factor: float) -> np.ndarray:
    """0 is smoothed by a 3x3 filter, 1 the clip itself; borders stay."""
    wide = video.astype(np.uint16)
    rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * wide[:, 1:-1, 1:-1]
    smooth = video.copy()
    smooth[:, 1:-1, 1:-1] = ((total + 6) // 13).astype(np.uint8)
    return blend(smooth, video, factor)


def turn_hue(video: np.ndarray, turn: float) -> np.ndarray:
    """Turns hues by `turn` of the circle, keeping value and saturation."""
    pixels = video.astype(np.float32)
    value, least = pixels.max(-1), pixels.min(-1)
    chroma = value - least
    safe = np.maximum(chroma, 1e-6)
    red, green, blue = (pixels[..., channel] for channel in range(3))
    hue = np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    hue = np.where(value == red, (green - blue) / safe, hue) + 6 * turn
    shifts = np.array((5, 3, 1), np.float32)  # of red, green and blue along the circle
    places = (hue[..., None] + shifts) % 6
    turned = value[..., None] - chroma[..., None] * np.clip(np.minimum(places, 4 - places), 0, 1)
    return np.clip(turned.round(), 0, 255).astype(np.uint8)
