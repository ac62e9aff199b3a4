"""Line charts as inline SVG, which a reader may walk through by pointer or by arrow keys."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ivjax.report.markup import colour_class, details, escaped, number, table

_WIDTH, _HEIGHT = 420.0, 210.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 8.0, 8.0, 26.0  # margins for the labels of the axes
_POINTS = 400  # of a line at most: more than a screen shows
_LOG_RATIO = 30  # the axis is logarithmic if the largest value is more than so many times the smallest


class ChartLine(NamedTuple):
    """A line of a chart.

    Attributes:
        label: names it.
        points: steps and values, in order.
        colour: number of its colour, from 0.
        held_out: whether it is of clips that are not trained on; drawn with dots and in full strength.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    held_out: bool = False


def line_chart(title: str, lines: Sequence[ChartLine], unit: str = "") -> str:
    """Returns a chart with its heading, its values as a table, and the points for the page's script."""
    lines = [line._replace(points=thinned(line.points)) for line in lines if line.points]
    faint = "both" if any(line.held_out for line in lines) else ""
    scales = _scales(lines)
    shown = json.dumps(
        {
            "steps": [scales.x.low, scales.x.high],
            "across": [_LEFT, _WIDTH - _RIGHT, _WIDTH],
            "lines": [{"label": line.label, "points": line.points} for line in lines],
        }
    )
    drawn = "".join([*_grid(scales), *(_path(line, scales) for line in lines)])
    about = "; ".join(
        f"{line.label} from {number(line.points[0][1])} to {number(line.points[-1][1])}" for line in lines
    )
    scale = ", logarithmic" if scales.y.log else ""
    return (
        f'<figure class="chart {faint}"><h3>{escaped(title)}</h3>'
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" tabindex="0" data-chart="{escaped(shown)}" '
        f'aria-label="{escaped(f"{title} by step{scale}: {about}. Arrow keys read the points.")}">'
        f'{drawn}<line class="cursor" y1="{_TOP:g}" y2="{_HEIGHT - _BOTTOM:g}" visibility="hidden"/></svg>'
        f'<output class="reading" aria-live="polite">{escaped(unit)}</output>'
        f"{details('values', _values(title, lines))}</figure>"
    )


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns every n-th point and the last one, so that there are few enough."""
    stride = -(-len(points) // _POINTS)
    kept = list(points[::stride]) if stride else []
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


class _Axis(NamedTuple):
    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return (value - low) / (high - low)

    def ticks(self) -> list[float]:
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            few = (1, 2, 5) if last - first <= 3 else (1,)
            found = [m * 10.0**e for e in range(first, last + 1) for m in few]
        else:
            rough = (self.high - self.low) / 4
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
            first = math.ceil(self.low / step)
            found = [step * n for n in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [tick for tick in found if self.low <= tick <= self.high * (1 + 1e-9)]


class _Scales(NamedTuple):
    x: _Axis
    y: _Axis

    def at(self, point: tuple[float, float]) -> tuple[float, float]:
        across, up = self.x.share(point[0]), self.y.share(point[1])
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )


def _scales(lines: Sequence[ChartLine]) -> _Scales:
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    low, high = min(ys), max(ys)
    log = low > 0 and high > _LOG_RATIO * low
    if not log:
        room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
        # An axis of what cannot be negative does not go below zero.
        low, high = (max(low - room, 0.0) if low >= 0 else low - room), high + room
    # Steps from 0 on, so that charts of one page have the same axis.
    return _Scales(_Axis(0.0, max(*xs, 1.0)), _Axis(low, high, log))


def _grid(scales: _Scales) -> Iterator[str]:
    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for tick in scales.y.ticks():
        _, y = scales.at((0.0, tick))
        yield f'<line class="grid" x1="{_LEFT:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{_tick(tick)}</text>'
    for tick in scales.x.ticks():
        x, _ = scales.at((tick, scales.y.low))
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{floor:g}" y2="{floor + 4:g}"/>'
        # The last label would be cut off at the edge.
        anchor = "end" if x > right - 20 else "middle"
        yield f'<text x="{x:.1f}" y="{floor + 18:g}" text-anchor="{anchor}">{_tick(tick)}</text>'


def _tick(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e4)):
        if abs(value) >= size:
            return f"{value / (1000 if unit == 'k' else size):g}{unit}"
    return f"{round(value, 9):g}"


def _path(line: ChartLine, scales: _Scales) -> str:
    places = [scales.at(point) for point in line.points]
    colour = colour_class(line.colour)
    kind = "held-out" if line.held_out else "trained"
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    drawn = f'<polyline class="{kind} {colour}" points="{path}"/>'
    if line.held_out or len(places) == 1:
        drawn += "".join(f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
    return drawn


def _values(title: str, lines: Sequence[ChartLine]) -> str:
    rows = []
    for line in lines:
        low, high = (choose(line.points, key=lambda point: point[1]) for choose in (min, max))
        first, last = line.points[0], line.points[-1]
        rows.append(
            (
                line.label,
                first[1],
                low[1],
                f"at {low[0]:,}",
                high[1],
                f"at {high[0]:,}",
                last[1],
                f"at {last[0]:,}",
            )
        )
    return table(title, ("", "first", "lowest", "", "highest", "", "last", ""), rows)
