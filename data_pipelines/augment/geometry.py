"""Crops: the part of each frame that is resized to the stage's size. One box for all frames of a clip."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from ivjax.errors import UserError
from ivjax.experiment.ranges import Count

_SCALES = (1.0, 0.875, 0.75, 0.66)
_SNAP = 3  # pixels; as in the originals, a crop that is this close to the wanted size becomes exactly that
_TRIES = 10  # as in the originals; then the centre is taken


class Box(NamedTuple):
    """A rectangle inside a frame, in pixels."""

    x: int
    y: int
    width: int
    height: int


class Crop(Protocol):
    """Chooses a box inside frames of width x height.

    One that draws may have a method `for_tests()` that returns its counterpart without draws.
    """

    def box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """The box, inside the frame and at least one pixel large."""
        ...


@dataclass(frozen=True)
class Whole:
    """The whole frame; resizing changes its proportions. The originals' test transform."""

    def box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """Returns the whole frame."""
        return Box(0, 0, width, height)

    def for_tests(self) -> Crop:
        """Returns the crop itself, which draws nothing."""
        return self


@dataclass(frozen=True)
class View:
    """A square as large as the shorter side: number `number` of `views` along the longer side.

    A single view is the centre.
    """

    number: int = 0
    views: Count = 1

    def __post_init__(self) -> None:
        if self.views < 1 or not 0 <= self.number < self.views:
            raise UserError(f"crop view {self.number} of {self.views}; views count from 0")

    def box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """Returns the square of this view."""
        side, spare = min(width, height), abs(width - height)
        # int and not round, as the originals' test reader.
        start = spare // 2 if self.views == 1 else int(self.number * spare / (self.views - 1))
        return Box(start, 0, side, side) if width > height else Box(0, start, side, side)

    def for_tests(self) -> Crop:
        """Returns the crop itself, which draws nothing."""
        return self


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the frame.

    Attributes:
        scale: its least and greatest area, as shares of the frame's.
        ratio: its least and greatest width / height.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        for name, (least, most), limit in (("scale", self.scale, 1.0), ("ratio", self.ratio, math.inf)):
            if not 0 < least <= most <= limit:
                raise UserError(
                    f"crop.{name}=({least:g},{most:g}); it must rise, above 0, to {limit:g} at most"
                )

    def box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """Returns a random box of allowed area and ratio; after ten tries the largest one in the middle."""
        for _ in range(_TRIES):
            area = width * height * rng.uniform(*self.scale)
            # Uniform in the logarithm, so that 3:4 and 4:3 are equally likely.
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return Box(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)
        return self._centre(width, height)

    def for_tests(self) -> Crop:
        """Returns the originals' crop of tests: all of the frame after large parts, else the centre."""
        # Stage 2 trains on half of the frame or more, and tests on all of it, squeezed into a square.
        # Fine-tuning trains on parts from 8 %, and tests on squares.
        return Whole() if self.scale[0] >= 0.5 else View()

    def _centre(self, width: int, height: int) -> Box:
        """Returns the largest box in the middle that keeps to the ratio."""
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        return Box((width - w) // 2, (height - h) // 2, w, h)


@dataclass(frozen=True)
class MultiScaleCrop:
    """VideoMAE's crop: one of few sizes, at one of 13 places.

    Attributes:
        size: the side that the crop is resized to; crops nearly as large become exactly as large.
    """

    size: Count = 224

    def box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """Returns one of the candidate sizes at one of the 13 places, both drawn."""
        pairs = crop_pairs(width, height, self.size)
        w, h = pairs[rng.integers(len(pairs))]
        w, h = max(min(w, width), 1), max(min(h, height), 1)  # tiny frames have odd candidates
        places = anchors(width, height, w, h)
        x, y = places[rng.integers(len(places))]
        return Box(x, y, w, h)

    def for_tests(self) -> Crop:
        """Returns the square in the centre."""
        return View()


def crop_for_tests(crop: Crop) -> Crop:
    """Returns the crop of tests that belongs to `crop`: it draws nothing.

    A crop says it with a method `for_tests`; of one without it, tests see the square in the centre.
    """
    counterpart = getattr(crop, "for_tests", None)
    found: Crop = View() if counterpart is None else counterpart()
    return found


def crop_pairs(width: int, height: int, size: int) -> list[tuple[int, int]]:
    """Returns (width, height) of the crops that MultiScaleCrop chooses from."""
    base = min(width, height)
    sides = [int(base * scale) for scale in _SCALES]
    sides = [size if abs(side - size) < _SNAP else side for side in sides]
    # Sides at most one scale apart: other proportions would distort too much. The order is the originals':
    # height varies slowest.
    return [(w, h) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]


def anchors(width: int, height: int, crop_width: int, crop_height: int) -> list[tuple[int, int]]:
    """Returns the 13 places (x, y) of a crop: corners, centres of edges, centre, quarter points."""
    across, down = (width - crop_width) // 4, (height - crop_height) // 4
    edges = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0))
    steps = (*edges, (1, 1), (3, 1), (1, 3), (3, 3))
    return [(across * x, down * y) for x, y in steps]
