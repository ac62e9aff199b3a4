"""The runs of a sweep: their curves, and what each swept value did."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ivjax.report.figure import BLUE, GREY, new_figure, write_figure

_WIDE = 20  # largest over smallest value from which an axis is logarithmic
_LEGEND_ROWS = 24

Points = Sequence[tuple[str, float]]


def draw_axes(axes: Mapping[str, Points], metric: str, highest: bool, folder: Path) -> list[Path]:
    """A picture for each swept path: the metric of every run against its value, the best per value joined."""
    return [_draw_axis(path, points, metric, highest, folder) for path, points in axes.items()]


def _draw_axis(path: str, points: Points, metric: str, highest: bool, folder: Path) -> Path:
    figure, axes = new_figure(1, 1, 5.2, 3.6)
    panel, places = axes[0, 0], _places([text for text, _ in points])
    panel.scatter(
        [places[text] for text, _ in points], [value for _, value in points], color=GREY, alpha=0.45
    )
    best = {text: (max if highest else min)(v for t, v in points if t == text) for text in places}
    order = sorted(best, key=lambda text: places[text])
    xs, ys = [places[text] for text in order], [best[text] for text in order]
    panel.plot(xs, ys, color=BLUE, marker="o", label="best of each value")
    if not _numbers(order):
        panel.set_xticks(xs, order, rotation=20 if max(map(len, order)) > 8 else 0)
    elif min(xs) > 0 and max(xs) > _WIDE * min(xs):
        panel.set_xscale("log")
    panel.set(xlabel=path, ylabel=metric)
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    return write_figure(figure, folder / "plots" / f"{path}.png")


def _places(texts: Sequence[str]) -> dict[str, float]:
    """Where each value stands on its axis: at its number, or one beside the other."""
    different = list(dict.fromkeys(texts))
    numbers = _numbers(different)
    return dict(zip(different, numbers or map(float, range(len(different))), strict=True))


def _numbers(texts: Sequence[str]) -> list[float]:
    """The values as numbers; nothing if one is none."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return []


def draw_runs(curves: Mapping[str, tuple[Any, Any]], metric: str, folder: Path) -> Path | None:
    """The metric of all runs, (steps, values) by name, in one panel."""
    if not curves:
        return None
    from matplotlib import colormaps

    figure, axes = new_figure(1, 1, 8.0, max(4.0, 0.2 * min(len(curves), _LEGEND_ROWS)))
    panel, colours = axes[0, 0], colormaps["viridis"]
    for number, (name, (steps, values)) in enumerate(curves.items()):
        panel.plot(
            steps, values, color=colours(number / max(len(curves) - 1, 1) * 0.9), label=name, marker="."
        )
    panel.set(xlabel="step", ylabel=metric)
    panel.grid(alpha=0.3)
    columns = -(-len(curves) // _LEGEND_ROWS)
    figure.legend(loc="outside right upper", fontsize="x-small", frameon=False, ncols=columns)
    return write_figure(figure, folder / "plots" / "curves.png")
