"""The protocol of frame rules, and helpers that all rules use."""

from typing import Protocol

import numpy as np

from ivjax.errors import UserError


class FrameRule(Protocol):
    """An option that chooses frames of a clip. A frozen dataclass, so configs can hold it.

    One that draws may have a method `for_tests()` that returns its counterpart without draws, and one with
    several views of a clip `view_for_tests(view, views)`: ivjax/data_pipelines/sampling/for_tests.py.
    """

    @property
    def frames(self) -> int:
        """Number of frames that come out, the same for every clip."""
        ...

    def choose(self, length: int, fps: float, rng: np.random.Generator) -> np.ndarray:
        """Returns frame numbers in [0, length) for a clip of `length` frames: (frames,) int64."""
        ...


def fill(found: np.ndarray, frames: int, length: int) -> np.ndarray:
    """Returns `found`, cut off at `length` - 1 and filled up with its last number: (frames,) int64."""
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
