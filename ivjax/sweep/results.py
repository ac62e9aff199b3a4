"""Runs compared at equal steps and at equal FLOPs: a table, a CSV file, plots."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ivjax.columns import aligned
from ivjax.drafts import store
from ivjax.errors import UserError, nearest
from ivjax.sweep.histories import History

_EVAL_LOSS = "eval/loss"


@dataclass(frozen=True)
class Ranking:
    """The order of runs in the table.

    Attributes:
        metric: A logged metric; None takes the eval loss, or the loss where there is none.
        highest: Whether the largest value is the best.
    """

    metric: str | None = None
    highest: bool = False


@dataclass(frozen=True)
class Comparison:
    """The values of a metric of finished runs, at equal steps and at equal FLOPs.

    Attributes:
        metric: The name of the metric.
        highest: Whether the largest value is the best.
        runs: The finished runs.
        steps: The last step that all runs logged; None if there is none.
        flops: The most FLOPs that all runs spent; None if there is no such number.
        at_steps: The value of each run after `steps` steps; empty without `steps`.
        at_flops: The value of each run after `flops` FLOPs; empty without `flops`.
    """

    metric: str
    highest: bool
    runs: tuple[History, ...]
    steps: int | None
    flops: float | None
    at_steps: tuple[float, ...]
    at_flops: tuple[float, ...]

    def ranked(self, values: Sequence[float]) -> list[int]:
        """Indices of the runs, best first; a value that is not a number comes last."""
        sign = -1.0 if self.highest else 1.0
        keys = [math.inf if math.isnan(value) else sign * value for value in values]
        return sorted(range(len(values)), key=lambda run: (keys[run], run))


def compare(histories: Sequence[History], ranking: Ranking) -> Comparison:
    """Compares the finished runs among `histories`."""
    runs = tuple(history for history in histories if history.finished)
    logged = {name for run in runs for line in run.lines for name in line}
    metric = ranking.metric or (_EVAL_LOSS if _EVAL_LOSS in logged else "loss")
    if runs and metric not in logged:
        raise UserError(f"no finished run has logged {metric}{nearest(metric, logged, cutoff=0.3)}")
    points = [run.metric(metric) for run in runs]
    # A step that all runs logged, and not the last of each: shorter runs would look worse than they are.
    common = set.intersection(*(set(p.steps.tolist()) for p in points)) if points else set()
    steps = max(common, default=None)
    at_steps = tuple(float(p.values[p.steps == steps][-1]) for p in points) if common else ()
    spent = [run.flops(p.steps) for run, p in zip(runs, points, strict=True)]
    flops = _common_flops(spent)
    curves = zip(points, spent, strict=True)
    at_flops = () if flops is None else tuple(float(np.interp(flops, s, p.values)) for p, s in curves)
    return Comparison(metric, ranking.highest, runs, steps, flops, at_steps, at_flops)


def _common_flops(spent: Sequence[np.ndarray]) -> float | None:
    """The most that all curves reach, given the FLOPs at each point of them; None if one begins later."""
    if not spent or not all(map(len, spent)):
        return None
    first, last = max(s[0] for s in spent), min(s[-1] for s in spent)
    # Beyond these bounds `interp` would repeat the end of a curve as if it had been measured.
    return float(last) if 0.0 < first <= last else None


def write_results(histories: Sequence[History], ranking: Ranking, folder: Path) -> str:
    """Writes table.txt, results.csv and plots into the folder of a sweep; returns the table."""
    # Imports matplotlib, which only this function needs.
    from ivjax.figures.sweeps import draw_axes, draw_runs

    compared = compare(histories, ranking)
    table = table_of(histories, compared)
    store(folder / "table.txt", table)
    store(folder / "results.csv", csv_of(histories, compared))
    values = dict(zip((run.name for run in compared.runs), compared.at_steps, strict=False))
    axes: dict[str, list[tuple[str, float]]] = {}
    for run in compared.runs:
        for path, text in run.swept.items():
            if math.isfinite(values.get(run.name, math.nan)):
                axes.setdefault(path, []).append((text, values[run.name]))
    draw_axes(axes, compared.metric, compared.highest, folder)
    curves = {run.name: run.metric(compared.metric) for run in histories}
    draw_runs({name: curve for name, curve in curves.items() if len(curve.steps)}, compared.metric, folder)
    return table


def table_of(histories: Sequence[History], compared: Comparison) -> str:
    """The finished runs sorted twice, and what became of the others. Says nothing of times."""
    parts = []
    for what, values in _columns(compared):
        rows = [(*_swept(compared.runs[r], histories), _short(values[r])) for r in compared.ranked(values)]
        parts.append("\n".join(aligned([(*_paths(histories), f"{compared.metric} {what}"), *rows])))
    others = [f"{history.name}: {_state(history)}" for history in histories if not history.finished]
    return "\n\n".join([*parts, *(["\n".join(others)] if others else [])]) + "\n"


def csv_of(histories: Sequence[History], compared: Comparison) -> str:
    """A line for each run in the order of the sweep."""
    names = [run.name for run in compared.runs]
    columns = {
        f"{compared.metric} {what}": dict(zip(names, v, strict=True)) for what, v in _columns(compared)
    }
    out = io.StringIO()
    # The default line end is \r\n.
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *_paths(histories), "state", "steps", "flops", *columns])
    for run in histories:
        spent = format(float(run.flops(np.array([run.last]))[0]), ".7g")
        found = [format(column[run.name], ".7g") if run.name in column else "" for column in columns.values()]
        writer.writerow([run.name, *_swept(run, histories), _state(run), run.last, spent, *found])
    return out.getvalue()


def _columns(compared: Comparison) -> list[tuple[str, tuple[float, ...]]]:
    found = []
    if compared.steps is not None:
        found.append((f"at step {compared.steps}", compared.at_steps))
    if compared.flops is not None:
        found.append((f"at {_flops(compared.flops)}", compared.at_flops))
    return found


def _paths(histories: Sequence[History]) -> list[str]:
    return list(dict.fromkeys(path for history in histories for path in history.swept)) or ["run"]


def _swept(run: History, histories: Sequence[History]) -> list[str]:
    return [run.swept.get(path, run.name if path == "run" else "") for path in _paths(histories)]


def _state(history: History) -> str:
    if history.finished:
        return "finished"
    if history.failure is not None:
        return f"failed: {history.failure}"
    return f"unfinished, step {history.last} of {history.steps}"


def _short(value: float) -> str:
    return "diverged" if math.isnan(value) else f"{value:.5g}"


def _flops(flops: float) -> str:
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if flops >= size:
            return f"{flops / size:.4g} {unit}FLOP"
    return f"{flops:.4g} FLOP"
