"""Draws the losses of runs against their steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivjax.errors import UserError
from ivjax.experiment.run_folder import METRICS, logged_line
from ivjax.report.figure import BLUE, ORANGE, new_figure, write_figure


def draw_curves(runs: Mapping[str, Path], out: Path) -> Path:
    """Draws one panel for each run: its loss, and that of the eval clips if it has one; returns the file."""
    figure, axes = new_figure(1, len(runs), 4.2, 3.0)
    for panel, (title, run) in zip(axes[0], runs.items(), strict=True):
        lines = read_metrics(run)
        for name, label, colour in (("loss", "training", BLUE), ("eval/loss", "eval", ORANGE)):
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            if points:
                panel.plot(*zip(*points, strict=True), color=colour, label=label, marker=".", markersize=4)
        panel.set(title=title, xlabel="step", ylabel="loss")
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    return write_figure(figure, out)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Returns the logged lines of a run, in order; each phase of a run in phases is a run of its own."""
    try:
        lines = (run / METRICS).read_bytes().splitlines()
    except OSError:
        raise UserError(f"{run} holds no {METRICS}; is it the folder of a run?") from None
    return [found for line in lines if (found := logged_line(line)) is not None]
