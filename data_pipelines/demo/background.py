"""Backgrounds of the demo corpus: two muted tones in a pattern."""

import colorsys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

BACKGROUNDS = ("plain", "striped", "chequered", "spotted", "shaded")
_HUES = ((0.0, 0.27), (0.61, 0.94))  # warm and cold, of the colour circle
_VALUES = ((0.2, 0.3), (0.52, 0.62))  # dark and light
_STEP = 0.13  # in brightness, from one tone to the other


class Tint(NamedTuple):
    """A class of tones: warm or cold, dark or light. Any detector sees a cut to the opposite in both."""

    cold: bool
    light: bool

    def opposite(self) -> "Tint":
        """Returns the tint that differs in both."""
        return Tint(not self.cold, not self.light)


@dataclass(frozen=True)
class Background:
    """A background.

    Attributes:
        pattern: one of BACKGROUNDS.
        hue: of the colour circle, 0 to 1.
        saturation: 0 to 1.
        value: brightness of the darker tone, 0 to 1.
        cell: size of the pattern as a share of the short side.
        upright: whether stripes and shades run upright.
    """

    pattern: str
    hue: float
    saturation: float
    value: float
    cell: float
    upright: bool

    def tones(self) -> np.ndarray:
        """Returns the darker and the lighter colour: (2, 3) RGB, 0 to 255."""
        values = (self.value, self.value + (0 if self.pattern == "plain" else _STEP))
        return np.array([colorsys.hsv_to_rgb(self.hue, self.saturation, v) for v in values]) * 255


def draw_background(rng: np.random.Generator, tint: Tint) -> Background:
    """Draws a background of a tint at random."""
    return Background(
        pattern=BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))],
        hue=float(rng.uniform(*_HUES[tint.cold])),
        saturation=float(rng.uniform(0.22, 0.36)),
        value=float(rng.uniform(*_VALUES[tint.light])),
        cell=float(rng.uniform(0.1, 0.17)),
        upright=bool(rng.integers(2)),
    )


def paint(background: Background, width: int, height: int) -> np.ndarray:
    """Returns the picture of a background: (height, width, 3) uint8."""
    dark, light = background.tones()
    share = _share(background, width, height)[..., None]
    return np.rint(dark + share * (light - dark)).astype(np.uint8)


def _share(background: Background, width: int, height: int) -> np.ndarray:
    """Returns the share of the lighter tone in each pixel: (height, width), 0 to 1."""
    rows, columns = np.mgrid[:height, :width]
    cell = background.cell * min(width, height)
    along = columns if background.upright else rows
    match background.pattern:
        case "striped":
            return (along // cell) % 2
        case "chequered":
            return (rows // cell + columns // cell) % 2
        case "spotted":
            away = np.hypot(rows % (2 * cell) - cell, columns % (2 * cell) - cell)
            return np.clip(0.6 * cell - away + 0.5, 0, 1)
        case "shaded":
            return along / along.max()
        case _:
            return np.zeros((height, width))
