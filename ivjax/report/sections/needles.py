"""Where in long videos needles are found: a map of length and depth."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ivjax.figures.heat_map import draw_heat_map
from ivjax.report.facts.eval_results import EvalResult
from ivjax.report.facts.run_facts import RunFacts
from ivjax.report.markup import Absent, Found, Section, framed_table, table

CELL, LENGTH = "cell", "length"  # kinds of groups in a result of the search for needles
_DIALOGUE = "VideoDialogue"
_HOW = (
    "ivjax eval {run} --suite needle --data drawn --length 100 --length 320 --by text --out {run}/needle.json"
)


def needles(runs: Sequence[RunFacts], pictures: Path) -> Iterator[Found]:
    """Yields the section of all maps, which are also written as PNG files."""
    body = ""
    for run in runs:
        mapped = [result for result in run.results if result.rows_by(CELL)]
        for result in mapped:
            body += _map(run, result)
            title = f"{run.label}: {result.metrics.get('accuracy', 0.0):.1f} % of the needles found"
            name = f"needle_{run.label.replace('/', '_')}_{result.file.stem}.png"
            draw_heat_map(title, _cells(result), pictures / name)
        if not mapped and run.stage == _DIALOGUE:
            yield Absent(f"needle map of {run.label}", _HOW.format(run=run.folder))
    if body:
        yield Section("needles", "Needles in long videos", body)


def _cells(result: EvalResult) -> dict[tuple[int, float], float]:
    return {(int(c["frames"]), float(c["depth"])): float(c["accuracy"]) for c in result.rows_by(CELL)}


def _map(run: RunFacts, result: EvalResult) -> str:
    named, cells = f"{run.label}: {result.title}", _cells(result)
    lengths, depths = (sorted({cell[axis] for cell in cells}) for axis in (0, 1))
    rows = "".join(
        f'<tr><th scope="row">{depth:g}</th>{"".join(_cell(cells, n, depth) for n in lengths)}</tr>'
        for depth in depths
    )
    chance = result.metrics.get("chance")
    beside = f"; chance is {chance:g} %" if chance is not None else ""
    caption = f"{named}. Percent of the needles that are found, by frames and depth{beside}"
    found = framed_table(caption, ("depth", *(f"{length:,}" for length in lengths)), rows, "map")
    if costs := result.rows_by(LENGTH):
        names = [name for name in costs[0] if name not in ("by", "name")]
        heads = ("frames", *(name.replace("_", " ") for name in names))
        rows_of = [[str(row["name"]), *(row.get(name) for name in names)] for row in costs]
        found += table(f"{named}, what each length costs", heads, rows_of)
    return found


def _cell(cells: Mapping[tuple[int, float], float], length: float, depth: float) -> str:
    value = cells.get((int(length), depth))
    if value is None:
        return "<td></td>"
    # Mixed of the style sheet's colours, which are others in the dark. The number says the same.
    low, high, share = ("low", "mid", 2 * value) if value <= 50 else ("mid", "high", 2 * value - 100)
    colour = f"color-mix(in srgb, var(--{high}) {share:g}%, var(--{low}))"
    return f'<td style="background:{colour}">{value:.0f}</td>'
