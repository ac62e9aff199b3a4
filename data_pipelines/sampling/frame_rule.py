"""What a frame rule is, and what all of them share."""

from typing import Protocol

import numpy as np

from ivjax.errors import UserError


class FrameRule(Protocol):
    """Chooses frames of a clip."""

    @property
    def frames(self) -> int:
        """How many frames come out, whatever the clip."""
        ...

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Numbers of frames of a clip of `length` frames, each in [0, length): (frames,) int64."""
        ...


def fill(found: np.ndarray, frames: int, length: int) -> np.ndarray:
    """`frames` numbers below `length`, the last one repeated where there are fewer."""
    found = np.minimum(found, length - 1)
    return np.concatenate([found, np.full(frames - len(found), found[-1])]).astype(np.int64)


def check_counts(**counts: float) -> None:
    """Raises UserError for a count that is not above 0."""
    for name, count in counts.items():
        if count <= 0:
            raise UserError(f"a frame rule has {name}={count:g}; it must be above 0")


def check_view(view: int, views: int) -> None:
    """Raises UserError if there is no such view."""
    if not 0 <= view < views:
        raise UserError(f"view={view} of views={views}; views count from 0 and there is at least one")
