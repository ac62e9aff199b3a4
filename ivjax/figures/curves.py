"""Draws the losses of runs against their steps."""

from collections.abc import Mapping
from pathlib import Path

from ivjax.experiment.run_folder import read_metrics
from ivjax.figures.figure import BLUE, ORANGE, new_figure, whole_ticks, write_figure


def draw_curves(runs: Mapping[str, Path], out: Path) -> Path:
    """Draws one panel for each run: its loss, and that of the eval clips if it has one; returns the file."""
    figure, axes = new_figure(1, len(runs), 4.2, 3.0)
    for panel, (title, run) in zip(axes[0], runs.items(), strict=True):
        lines = read_metrics(run)
        for name, label, colour in (("loss", "training", BLUE), ("eval/loss", "eval", ORANGE)):
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            if points:
                panel.plot(*zip(*points, strict=True), color=colour, label=label, marker=".", markersize=4)
        whole_ticks(panel)
        panel.set(title=title, xlabel="step", ylabel="loss")
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    return write_figure(figure, out)
