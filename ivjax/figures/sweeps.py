"""Draws the runs of a sweep: their curves, and the effect of each swept value."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ivjax.figures.figure import BLUE, GREY, new_figure, whole_ticks, write_figure

_LOG_AXIS_RATIO = 20  # an axis is logarithmic if its largest value is more than so many times the smallest
_MOST_TICKS = 8  # more values of a swept number than this have their axis marked at round numbers
_LEGEND_ROWS = 24

AxisPoints = Sequence[tuple[str, float]]  # a value of the swept option as text, and the metric there


def draw_axes(axes: Mapping[str, AxisPoints], metric: str, highest: bool, folder: Path) -> list[Path]:
    """Draws the metric against each swept path, and a line through the best of each value; returns files."""
    return [_draw_axis(path, points, metric, highest, folder) for path, points in axes.items()]


def _draw_axis(path: str, points: AxisPoints, metric: str, highest: bool, folder: Path) -> Path:
    figure, axes = new_figure(1, 1, 5.2, 3.6)
    panel = axes[0, 0]
    draw_points(panel, points, highest)
    panel.set(xlabel=path, ylabel=metric)
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    return write_figure(figure, folder / "plots" / f"{path}.png")


def draw_points(panel: Any, points: AxisPoints, highest: bool) -> None:
    """Draws the metric of all runs at their values of a swept option, and a line through the best of each."""
    positions = _positions([text for text, _ in points])
    panel.scatter(
        [positions[text] for text, _ in points], [value for _, value in points], color=GREY, alpha=0.45
    )
    # The best of each value and not the mean: one bad setting of another axis would hide the effect.
    best = {text: (max if highest else min)(v for t, v in points if t == text) for text in positions}
    order = sorted(best, key=lambda text: positions[text])
    xs, ys = [positions[text] for text in order], [best[text] for text in order]
    panel.plot(xs, ys, color=BLUE, marker="o", label="best of each value")
    _mark(panel, xs, order)


def _mark(panel: Any, positions: Sequence[float], texts: Sequence[str]) -> None:
    """Marks the axis of a swept path: at its values where they are few, else at whole numbers if they are."""
    numbers = bool(_numbers(texts))
    log = numbers and min(positions) > 0 and max(positions) > _LOG_AXIS_RATIO * min(positions)
    if log:
        panel.set_xscale("log")
    if not numbers or len(texts) <= _MOST_TICKS:
        # As they were typed. A round number between two of them would be one that nobody has tried.
        panel.set_xticks(positions, texts, rotation=20 if max(map(len, texts)) > 8 else 0)
        panel.minorticks_off()
    elif not log and all(position.is_integer() for position in positions):
        whole_ticks(panel)


def _positions(texts: Sequence[str]) -> dict[str, float]:
    """Returns the position of each value on its axis: its number, or 0, 1, 2, ... if one is no number."""
    different = list(dict.fromkeys(texts))
    numbers = _numbers(different)
    return dict(zip(different, numbers or map(float, range(len(different))), strict=True))


def _numbers(texts: Sequence[str]) -> list[float]:
    """Returns the values as numbers, or [] if one is no number."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return []


def draw_runs(curves: Mapping[str, tuple[Any, Any]], metric: str, folder: Path) -> Path | None:
    """Draws the metric of all runs, name -> (steps, values), in one panel; returns the file."""
    if not curves:
        return None
    from matplotlib import colormaps

    figure, axes = new_figure(1, 1, 8.0, max(4.0, 0.2 * min(len(curves), _LEGEND_ROWS)))
    panel, colours = axes[0, 0], colormaps["viridis"]
    for number, (name, (steps, values)) in enumerate(curves.items()):
        panel.plot(
            steps, values, color=colours(number / max(len(curves) - 1, 1) * 0.9), label=name, marker="."
        )
    whole_ticks(panel)
    panel.set(xlabel="step", ylabel=metric)
    panel.grid(alpha=0.3)
    columns = -(-len(curves) // _LEGEND_ROWS)
    figure.legend(loc="outside right upper", fontsize="x-small", frameon=False, ncols=columns)
    return write_figure(figure, folder / "plots" / "curves.png")
