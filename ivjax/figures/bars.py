"""Draws accuracies side by side, with a line for chance."""

from collections.abc import Mapping
from pathlib import Path

from ivjax.figures.figure import BLUE, GREY, ORANGE, new_figure, write_figure


def draw_bars(title: str, accuracies: Mapping[str, float], chance: float, out: Path) -> Path:
    """Draws percentages by name, the first two in colour, and `chance` as a dashed line; returns the file."""
    figure, axes = new_figure(1, 1, 1.6 + 1.1 * len(accuracies), 3.2)
    panel, colours = axes[0, 0], [BLUE, ORANGE] + [GREY] * len(accuracies)
    bars = panel.bar(list(accuracies), list(accuracies.values()), color=colours[: len(accuracies)], width=0.6)
    panel.bar_label(bars, fmt="%.1f %%")
    panel.axhline(chance, color=GREY, linestyle="--", linewidth=1)
    panel.annotate(
        f"chance {chance:.1f} %",
        (0.98, chance),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        color=GREY,
    )
    panel.set(title=title, ylabel="right, %", ylim=(0, 105))
    panel.spines[["top", "right"]].set_visible(False)
    return write_figure(figure, out)
