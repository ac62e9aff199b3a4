"""What the page is about: a row for each run."""

from collections.abc import Iterator, Sequence

from ivjax.report.facts.run_facts import RunFacts
from ivjax.report.markup import Cell, Found, Section, duration, legend, table

_HEADINGS = ("run", "stage", "steps", "batch", "last loss", "held-out", "time", "checkpoint", "folder")


def overview(runs: Sequence[RunFacts]) -> Iterator[Found]:
    """Yields the section about all runs."""
    # The colours of the charts below, said once for all of them.
    key = legend([run.label for run in runs]) if len(runs) > 1 else ""
    yield Section("runs", "Runs", key + table("Runs", _HEADINGS, map(_row, runs)))


def _row(run: RunFacts) -> list[Cell]:
    last = max((line["step"] for line in run.lines), default=0)
    steps = run.config.get("steps", "")
    whole = f" of {int(steps):,}" if steps.isdecimal() else ""
    loss, held_out = run.points("loss"), run.points("eval/loss")
    return [
        run.label,
        run.stage,
        f"{last:,}{whole}",
        run.config.get("batch", ""),
        loss[-1][1] if loss else None,
        held_out[-1][1] if held_out else None,
        duration(sum(run.times.values())) if run.times else None,
        run.checkpoint,
        str(run.folder),
    ]
