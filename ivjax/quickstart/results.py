"""The results of the quickstart's commands, in a few words each, from what they have stored."""

import json
from pathlib import Path
from typing import Any

from ivjax.experiment.run_folder import read_metrics
from ivjax.quickstart.screen import last_lines


def trained(run: Path) -> str:
    """Returns the loss at the first and the last line of a run's log, in training and on held-out clips."""
    lines = read_metrics(run)
    parts = [
        f"{label} {found[0]:.3g} -> {found[-1]:.3g}"
        for label, name in (("loss", "loss"), ("held out", "eval/loss"))
        if len(found := [line[name] for line in lines if name in line]) > 1
    ]
    return ", ".join(parts)


def probed(result: Path) -> str:
    """Returns how often a probe was right, beside what needs no training, or no video."""
    found = _metrics(result)
    return (
        f"right for {found['top1']:.0f} %; of one frame {found['still_top1']:.0f}, "
        f"random features {found['random_top1']:.0f}, chance {found['chance']:.0f} %"
    )


def retrieved(result: Path) -> str:
    """Returns how many captions and clips find each other first."""
    found = _metrics(result)
    chance = 100 / json.loads(result.read_text())["protocol"]["videos"]
    return f"found first {found['t2v_r1']:.1f} % and {found['v2t_r1']:.1f} %, chance {chance:.2g} %"


def answered(result: Path) -> str:
    """Returns how many questions were answered rightly."""
    found = _metrics(result)
    return f"{found['accuracy']:.0f} % right, chance {found['chance']:.0f} %"


def said(log: Path) -> str:
    """Returns the last line of a log, without the path that it begins with and the seconds at its end."""
    line = next(iter(last_lines(log, 1)), "")
    return line.rpartition(": ")[2].partition(" (")[0]


def _metrics(result: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.read_text())["metrics"]
    return found
