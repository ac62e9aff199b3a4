"""The runs of sweeps, compared at equal steps and at equal FLOPs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ivjax.errors import UserError
from ivjax.report.markup import Absent, Cell, Found, Section, escaped, paragraph, table
from ivjax.sweep.histories import History
from ivjax.sweep.results import Comparison, Ranking, compare
from ivjax.sweep.sweep_folder import read_sweep_folder


def sweep_tables(sweeps: Sequence[Path], ranking: Ranking) -> Iterator[Found]:
    """Yields the section of all sweeps."""
    body = ""
    for folder in sweeps:
        try:
            sweep = read_sweep_folder(folder)
            histories = sweep.histories()
            compared = compare(histories, ranking)
        # Of a config that is gone, or of a metric that no run has logged.
        except UserError as error:
            yield Absent(f"the sweep {folder}: {error}")
            continue
        body += f"<h3>{escaped(folder.name)}</h3>" if len(sweeps) > 1 else ""
        told = paragraph(f"{len(compared.runs)} of {len(histories)} runs of {sweep.config} have finished.")
        body += told + "".join(_tables(histories, compared)) + _unfinished(histories)
    if body:
        yield Section("sweep", "Sweep", body)


def _tables(histories: Sequence[History], compared: Comparison) -> Iterator[str]:
    paths = list(dict.fromkeys(path for history in histories for path in history.swept))
    best = "highest" if compared.highest else "lowest"
    for values, where in (
        (compared.at_steps, f"at step {compared.steps}"),
        (compared.at_flops, f"at {compared.flops or 0:.4g} FLOP"),
    ):
        if values:
            ranked: list[list[Cell]] = [
                [
                    compared.runs[place].name,
                    *(compared.runs[place].swept.get(path) for path in paths),
                    values[place],
                ]
                for place in compared.ranked(values)
            ]
            yield table(
                f"{compared.metric} {where}, the {best} first", ("run", *paths, compared.metric), ranked
            )


def _unfinished(histories: Sequence[History]) -> str:
    rows = [
        (history.name, history.failure or f"step {history.last:,} of {history.steps:,}")
        for history in histories
        if not history.finished
    ]
    return table("Runs that have not finished", ("run", "state"), rows) if rows else ""
