"""The results of the quickstart's commands, in a few words each, from what they have stored."""

import json
import re
from pathlib import Path
from typing import Any

from ivjax.experiment.run_folder import read_metrics
from ivjax.quickstart.screen import last_lines

# Such as "1,600 clips and 400 held out, in 394 videos, are in demo", without the place and the time.
_MADE = re.compile(r"(?:^|: )([\d,]+ (?:clips|videos)\b.*?)(?:,? are in | \(|$)")
_OF_ROWS = re.compile(r" of [\d,]+ rows")


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
        f"{_percent(found['top1'])} right, one frame {_percent(found['still_top1'])}, "
        f"random {_percent(found['random_top1'])}, chance {_percent(found['chance'])}"
    )


def retrieved(result: Path) -> str:
    """Returns how many captions and clips find each other first."""
    found = _metrics(result)
    return (
        f"first hit right: captions {_percent(found['t2v_r1'])}, clips {_percent(found['v2t_r1'])}, "
        f"chance {_percent(found['t2v_r1_chance'])}"
    )


def answered(result: Path) -> str:
    """Returns how many questions were answered rightly."""
    found = _metrics(result)
    return f"{_percent(found['accuracy'])} right, chance {_percent(found['chance'])}"


def drawn(log: Path) -> str:
    """Returns how many clips or videos a data command has made, by the end of its log."""
    found = (_MADE.search(line) for line in reversed(last_lines(log, 5)))
    return next((_OF_ROWS.sub("", match[1]) for match in found if match), "")


def _metrics(result: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.read_text())["metrics"]
    return found


def _percent(value: float) -> str:
    return f"{value:.{0 if value >= 9.95 else 1}f} %"
