"""Makes figures and writes them as PNG files, without a display."""

import io
from pathlib import Path
from typing import Any

from ivjax.drafts import store

BLUE, ORANGE, GREY = "#1f5fa8", "#d9772b", "#8a8a8a"


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    """Returns a figure and its axes (rows, columns). Width and height of one panel are in inches."""
    # Figure and canvas directly: pyplot would look for a display, and keep every figure alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def whole_ticks(panel: Any) -> None:
    """Marks the horizontal axis of a panel at whole numbers: there is no step 2.5, and no depth 2.25."""
    panel.xaxis.get_major_locator().set_params(integer=True)


def write_figure(figure: Any, out: Path) -> Path:
    """Writes a figure, whole or not at all; returns the file."""
    # In memory first, so that `store` can put the whole file in place in one move.
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=110)
    store(out, encoded.getvalue())
    return out
