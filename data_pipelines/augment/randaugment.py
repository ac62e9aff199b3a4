"""RandAugment with the 15 increasing operations; one draw for all frames of a clip."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ivjax.data_pipelines.augment.pixels import brighten, contrast, saturate, sharpen
from ivjax.errors import UserError

_FILL = 128  # of what a turn or a shift uncovers
_MOST = 10.0  # magnitudes lie in [0, 10]

Operation = Callable[[np.ndarray, float, float], np.ndarray]


@dataclass(frozen=True)
class RandAugment:
    """`operations` of 15 drawn with replacement, each applied with `probability`.

    `magnitude` (0 to 10) decides how much, `deviation` spreads it. The originals write this as
    rand-m7-n4-mstd0.5-inc1: see `parse`.
    """

    magnitude: float = 7.0
    operations: int = 4
    deviation: float = 0.5
    probability: float = 0.5

    @classmethod
    def parse(cls, text: str) -> "RandAugment":
        """From a string such as rand-m7-n4-mstd0.5-inc1."""
        name, *parts = text.split("-")
        values = {}
        for part in parts:
            letters = part.rstrip("0123456789.")
            values[letters] = part[len(letters) :]
        if name != "rand" or set(values) - {"m", "n", "mstd", "inc"} or values.get("inc", "0") != "1":
            raise UserError(f"{text!r} is not understood; write for example rand-m7-n4-mstd0.5-inc1")
        return cls(float(values.get("m", 10)), int(values.get("n", 2)), float(values.get("mstd", 0)))

    def apply(self, video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(T, H, W, 3) uint8 -> the same shape."""
        names = list(OPERATIONS)
        for choice in rng.integers(len(names), size=self.operations):
            chance, sign = rng.random(), 1.0 if rng.random() < 0.5 else -1.0
            magnitude = min(max(rng.normal(self.magnitude, self.deviation), 0.0), _MOST)
            if chance < self.probability:
                video = OPERATIONS[names[choice]](video, magnitude / _MOST, sign)
        return video


def auto_contrast(video: np.ndarray, level: float, sign: float) -> np.ndarray:
    """Stretches each channel of each frame to 0 ... 255."""
    return _by_table(video, _stretching)


def equalize(video: np.ndarray, level: float, sign: float) -> np.ndarray:
    """Spreads the values of each channel of each frame evenly."""
    return _by_table(video, _equalizing)


def _by_table(video: np.ndarray, table_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Replaces values by a table made from each plane's histogram (256,)."""
    out = np.empty_like(video)
    for frame in range(len(video)):
        for channel in range(3):
            plane = video[frame, ..., channel]
            out[frame, ..., channel] = table_of(np.bincount(plane.reshape(-1), minlength=256))[plane]
    return out


def _stretching(histogram: np.ndarray) -> np.ndarray:
    """The table of 256 values that brings the least to 0 and the most to 255."""
    used = np.flatnonzero(histogram)
    least, most = int(used[0]), int(used[-1])
    if most == least:
        return np.arange(256, dtype=np.uint8)
    scale = 255 / (most - least)
    return np.clip(np.arange(256) * scale - least * scale, 0, 255).astype(np.uint8)


def _equalizing(histogram: np.ndarray) -> np.ndarray:
    """The table of 256 values that evens out a histogram."""
    used = histogram[histogram > 0]
    step = (used.sum() - used[-1]) // 255
    if len(used) <= 1 or step == 0:
        return np.arange(256, dtype=np.uint8)
    before = np.concatenate([[0], np.cumsum(histogram)[:-1]])
    return np.clip((step // 2 + before) // step, 0, 255).astype(np.uint8)


def invert(video: np.ndarray, level: float, sign: float) -> np.ndarray:
    """The negative."""
    return 255 - video


def posterize(video: np.ndarray, level: float, sign: float) -> np.ndarray:
    """Keeps 4 bits of each value, down to none."""
    bits = 4 - int(level * 4)
    return video & np.uint8(256 - 2 ** (8 - bits))


def solarize(video: np.ndarray, level: float, sign: float) -> np.ndarray:
    """Inverts values from a threshold on, which falls with the level."""
    return np.where(video < 256 - int(level * 256), video, 255 - video)


def solarize_add(video: np.ndarray, level: float, sign: float) -> np.ndarray:
    """Adds up to 110 to the darker half of the values."""
    table = np.arange(256)
    table[:128] = np.minimum(table[:128] + int(level * 110), 255)
    return table.astype(np.uint8)[video]


def _enhanced(change: Callable[[np.ndarray, float], np.ndarray]) -> Operation:
    return lambda video, level, sign: change(video, max(0.1, 1.0 + sign * level * 0.9))


def rotate(video: np.ndarray, level: float, sign: float) -> np.ndarray:
    """Up to 30 degrees about the centre, counter-clockwise for a positive sign."""
    angle = math.radians(sign * level * 30)
    height, width = video.shape[1:3]
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    return affine(video, ((cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y)))


def shear_x(video: np.ndarray, level: float, sign: float) -> np.ndarray:
    """Rows slide by up to 0.3 of their distance from the top."""
    return affine(video, ((1, sign * level * 0.3, 0), (0, 1, 0)))


def shear_y(video: np.ndarray, level: float, sign: float) -> np.ndarray:
    """Columns slide by up to 0.3 of their distance from the left."""
    return affine(video, ((1, 0, 0), (sign * level * 0.3, 1, 0)))


def translate_x(video: np.ndarray, level: float, sign: float) -> np.ndarray:
    """Left (positive sign) or right by up to 0.45 of the width."""
    return affine(video, ((1, 0, sign * level * 0.45 * video.shape[2]), (0, 1, 0)))


def translate_y(video: np.ndarray, level: float, sign: float) -> np.ndarray:
    """Up (positive sign) or down by up to 0.45 of the height."""
    return affine(video, ((1, 0, 0), (0, 1, sign * level * 0.45 * video.shape[1])))


Row = tuple[float, float, float]


def affine(video: np.ndarray, matrix: tuple[Row, Row]) -> np.ndarray:
    """Each pixel (x, y) is fetched from matrix @ (x, y, 1), between pixels bilinearly; grey outside."""
    height, width = video.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    across, down = (a * x + b * y + c for a, b, c in matrix)
    left, top = np.floor(across), np.floor(down)
    right_share, bottom_share = (across - left)[..., None], (down - top)[..., None]
    inside = (across > -0.5) & (across < width - 0.5) & (down > -0.5) & (down < height - 0.5)
    out = np.zeros(video.shape, np.float32)
    for dy, row_share in ((0, 1 - bottom_share), (1, bottom_share)):
        rows = np.clip(top + dy, 0, height - 1).astype(np.intp)
        for dx, share in ((0, 1 - right_share), (1, right_share)):
            weight = row_share * share
            if weight.any():
                columns = np.clip(left + dx, 0, width - 1).astype(np.intp)
                out += weight * video[:, rows, columns]
    return np.where(inside[..., None], np.rint(out), _FILL).astype(np.uint8)


OPERATIONS: dict[str, Operation] = {
    "auto_contrast": auto_contrast,
    "equalize": equalize,
    "invert": invert,
    "rotate": rotate,
    "posterize": posterize,
    "solarize": solarize,
    "solarize_add": solarize_add,
    "colour": _enhanced(saturate),
    "contrast": _enhanced(contrast),
    "brightness": _enhanced(brighten),
    "sharpness": _enhanced(sharpen),
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
}
