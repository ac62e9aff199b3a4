"""Draws where in long videos a needle is found: depth over length."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ivjax.figures.figure import new_figure, write_figure

_WRITTEN = 150  # cells whose numbers can still be read


def draw_heat_map(title: str, cells: Mapping[tuple[int, float], float], out: Path) -> Path:
    """Draws percentages of cells (frames, depth), red for 0 and green for 100; returns the file."""
    frames, depths = (sorted({cell[axis] for cell in cells}) for axis in (0, 1))
    grid = np.full((len(depths), len(frames)), np.nan)
    for (length, depth), value in cells.items():
        grid[depths.index(depth), frames.index(length)] = value
    figure, axes = new_figure(1, 1, 2.6 + 0.62 * len(frames), 1.8 + 0.42 * len(depths))
    panel = axes[0, 0]
    image = panel.imshow(grid, cmap="RdYlGn", vmin=0, vmax=100, aspect="auto")
    panel.set_xticks(range(len(frames)), [f"{length:,}" for length in frames], rotation=30, ha="right")
    panel.set_yticks(range(len(depths)), [f"{depth:g}" for depth in depths])
    if grid.size <= _WRITTEN:
        for row, column in np.argwhere(~np.isnan(grid)):
            panel.text(column, row, f"{grid[row, column]:.0f}", ha="center", va="center", fontsize="small")
    panel.set(title=title, xlabel="frames", ylabel="depth of the needle")
    figure.colorbar(image, ax=panel, label="found, %")
    return write_figure(figure, out)
