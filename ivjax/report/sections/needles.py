"""Where in long videos needles are found: a map of length and depth."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ivjax.figures.heat_map import draw_heat_map
from ivjax.report.facts.eval_results import EvalResult
from ivjax.report.facts.run_facts import RunFacts
from ivjax.report.markup import Absent, Found, Section, file_name, framed_table, paragraph, table
from ivjax.report.sections.result_names import results_named

CELL, LENGTH = "cell", "length"  # kinds of groups in a result of the search for needles
_DIALOGUE, _SUITE = "VideoDialogue", "needle"
_HOW = (
    "ivjax eval {run} --suite needle --data drawn --length 100 --length 320 --by text --out {run}/needle.json"
)


def needles(runs: Sequence[RunFacts], pictures: Path) -> Iterator[Found]:
    """Yields the section of all maps, which are also written as PNG files."""
    body = ""
    for name, result in results_named(runs, _SUITE):
        if cells := _cells(result):
            body += f"<div>{_map(name, result)}</div>"
            title = f"{name}: {result.metrics.get('accuracy', 0.0):.1f} % of the needles found"
            draw_heat_map(title, cells, pictures / f"needle_{file_name(name)}.png")
    for run in runs:
        if run.stage == _DIALOGUE and not any(result.suite == _SUITE for result in run.results):
            yield Absent(f"needle map of {run.label}", _HOW.format(run=run.folder))
    if body:
        about = paragraph("Percent of the needles that are found, by frames (across) and depth.", "note")
        yield Section("needles", "Needles in long videos", f'{about}<div class="maps">{body}</div>')


def _cells(result: EvalResult) -> dict[tuple[int, float], float]:
    return {(int(c["frames"]), float(c["depth"])): float(c["accuracy"]) for c in result.rows_by(CELL)}


def _map(name: str, result: EvalResult) -> str:
    cells = _cells(result)
    lengths, depths = (sorted({cell[axis] for cell in cells}) for axis in (0, 1))
    rows = "".join(
        f'<tr><th scope="row">{depth:g}</th>{"".join(_cell(cells, n, depth) for n in lengths)}</tr>'
        for depth in depths
    )
    chance = result.metrics.get("chance")
    beside = f"; chance {chance:g} %" if chance is not None else ""
    caption = f"{name}: {result.metrics.get('accuracy', 0.0):g} % of all{beside}"
    found = framed_table(caption, ("depth", *(f"{length:,}" for length in lengths)), rows, "map")
    if costs := result.rows_by(LENGTH):
        columns = [column for column in costs[0] if column not in ("by", "name")]
        heads = ("length", *(column.replace("_", " ") for column in columns))
        rows_of = [[str(row["name"]), *(row.get(column) for column in columns)] for row in costs]
        found += table(f"{name}: what each length costs", heads, rows_of)
    return found


def _cell(cells: Mapping[tuple[int, float], float], length: float, depth: float) -> str:
    value = cells.get((int(length), depth))
    if value is None:
        return "<td></td>"
    # Mixed of the style sheet's colours, which are others in the dark. The number says the same.
    low, high, share = ("low", "mid", 2 * value) if value <= 50 else ("mid", "high", 2 * value - 100)
    colour = f"color-mix(in srgb, var(--{high}) {share:g}%, var(--{low}))"
    return f'<td style="background:{colour}">{value:.0f}</td>'
