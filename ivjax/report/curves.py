"""Draws the losses of runs against their steps."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivjax.errors import UserError
from ivjax.report.figure import BLUE, ORANGE, new_figure, write_figure

_METRICS = "metrics.jsonl"


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
        lines = (run / _METRICS).read_text(errors="replace").splitlines()
    except OSError:
        raise UserError(f"{run} holds no {_METRICS}; is it the folder of a run?") from None
    return [found for line in lines if (found := _parsed(line)) is not None]


def _parsed(line: str) -> dict[str, Any] | None:
    """Returns a line, or None for one that a kill or a full disk has cut."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "step" in found else None
