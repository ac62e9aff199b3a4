"""Rules by which a tensor of another shape may be made to fit a model.

A rule sees shapes alone, before anything is read, and returns the change, or None where it cannot help.
Shapes are those of the original tensors, not of the leaves.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ivjax.convert.formats.tensors import Shape
from ivjax.errors import UserError
from ivjax.models.sizes import Grid
from ivjax.ops.resize import Inflation, inflate_kernel, resize_table


@dataclass(frozen=True)
class Fitting:
    """The facts that a rule needs beside shapes.

    Attributes:
        grid: the model's patch grid (T, H, W); None if unknown.
        frames: the numbers of frames that a file's joint position table may stand for.
        inflate: how image kernels become video kernels.
    """

    grid: Grid | None = None
    frames: tuple[int, ...] = (8,)
    inflate: Inflation = "centre"


@dataclass(frozen=True)
class Change:
    """The change that makes a tensor fit.

    Attributes:
        text: what is done, for the report.
        apply: does it.
    """

    text: str
    apply: Callable[[np.ndarray], np.ndarray]


# (a tensor's shape, the parameter's, facts) -> the change that makes it fit, if one does.
Fit = Callable[[Shape, Shape, Fitting], Change | None]


def times(have: Shape, want: Shape, fitting: Fitting) -> Change | None:
    """Rule of a table over time (..., T, C): linear interpolation."""
    if not _same_but_rows(have, want):
        return None
    return _resized((have[-2], 1, 1), (want[-2], 1, 1), kept=0)


def places(kept: int) -> Fit:
    """Returns the rule of a table over space (..., kept + H*W, C): bicubic interpolation."""

    def rule(have: Shape, want: Shape, fitting: Fitting) -> Change | None:
        if not _same_but_rows(have, want):
            return None
        new = (1, *fitting.grid[1:]) if fitting.grid else _square(want[-2] - kept, 1)
        old = _square(have[-2] - kept, 1)
        return _resized(old, new, kept) if old and new and math.prod(new) == want[-2] - kept else None

    return rule


def times_and_places(kept: int) -> Fit:
    """Returns the rule of a joint table (..., kept + T*H*W, C): linear in time, then bicubic in space."""

    def rule(have: Shape, want: Shape, fitting: Fitting) -> Change | None:
        if not _same_but_rows(have, want):
            return None
        new = fitting.grid or _guess(want[-2] - kept, fitting.frames, None)
        if new is None or math.prod(new) != want[-2] - kept:
            return None
        old = _guess(have[-2] - kept, fitting.frames, new)
        return _resized(old, new, kept) if old else None

    return rule


def first_rows(have: Shape, want: Shape, fitting: Fitting) -> Change | None:
    """Rule of a table over words (L, C): a longer one is cut."""
    if not _same_but_rows(have, want) or have[-2] < want[-2]:
        return None
    # CLIP's texts have 77 places and ViCLIP's 32, counted from the same beginning.
    return Change(f"cut from {have[-2]} to {want[-2]} rows", lambda table: table[..., : want[-2], :])


def one_more_row(have: Shape, want: Shape, fitting: Fitting) -> Change | None:
    """Rule of a table of words (V, C) for a vocabulary with one word more."""
    if not _same_but_rows(have, want) or have[-2] + 1 != want[-2]:
        return None
    # Drawn as such tables are. Always the same row: what a file gives depends on the file alone.
    added = np.random.default_rng(0).normal(0.0, 0.02, (1, want[-1]))
    text = f"grown from {have[-2]} to {want[-2]} rows, the last one drawn"
    return Change(text, lambda table: np.concatenate([table, added.astype(table.dtype)], axis=-2))


def over_time(have: Shape, want: Shape, fitting: Fitting) -> Change | None:
    """Rule of a patch kernel (O, I, h, w) or (O, I, 1, h, w) for a kernel of images (O, I, h, w) or of videos
    (O, I, t, h, w)."""
    single = len(have) == 4 or (len(have) == 5 and have[2] == 1)
    if not single or len(want) not in (4, 5) or have[:2] + have[-2:] != want[:2] + want[-2:]:
        return None
    if len(want) == 4:
        return Change("without its axis of time, which has one tap", lambda kernel: kernel[:, :, 0])
    how = fitting.inflate
    text = f"inflated to {want[2]} taps in time ({how})"
    return Change(text, lambda kernel: inflate_kernel(kernel, want[2], how))


def _same_but_rows(have: Shape, want: Shape) -> bool:
    # Only the rows may differ: another width is another model, and no interpolation mends that.
    alike = len(have) == len(want) >= 2 and have[-1] == want[-1]
    return alike and set(have[:-2]) | set(want[:-2]) <= {1}


def _square(rows: int, frames: int) -> Grid | None:
    """Returns the grid of `frames` square frames that has `rows` patches, if there is one."""
    # A table does not say its grid; the released ones are all square.
    side = math.isqrt(max(rows, 0) // frames)
    return (frames, side, side) if side and frames * side * side == rows else None


def _guess(rows: int, frames: tuple[int, ...], new: Grid | None) -> Grid | None:
    """Returns the grid of `rows` patches for a known frame count, in the model's space if possible."""
    # Several frame counts may give a square grid: 2048 patches are 8 x 16 x 16 and 2 x 32 x 32.
    grids = [grid for count in frames if (grid := _square(rows, count))]
    if new and any(grid[1:] == new[1:] for grid in grids):
        grids = [grid for grid in grids if grid[1:] == new[1:]]
    # A wrong guess would resize without any error, and cost accuracy that nobody could explain.
    if len(grids) > 1:
        choices = " or ".join(map(_text, grids))
        raise UserError(f"a position table of {rows} patches may be {choices}; say how many frames it has")
    return grids[0] if grids else None


def _resized(old: Grid, new: Grid, kept: int) -> Change:
    return Change(f"resized from {_text(old)} to {_text(new)}", lambda t: resize_table(t, old, new, kept))


def _text(grid: Grid) -> str:
    return "x".join(str(axis) for axis in grid if axis != 1) or "1"
