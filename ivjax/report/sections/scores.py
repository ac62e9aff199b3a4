"""Results of evals: metrics of all results, and of parts of the test sets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ivjax.evals.suites.retrieval import SIDES
from ivjax.report.facts.eval_results import EvalResult
from ivjax.report.facts.run_facts import RunFacts
from ivjax.report.markup import Absent, Cell, Found, Section, details, escaped, paragraph, table
from ivjax.report.sections.needles import CELL, LENGTH
from ivjax.report.sections.result_names import NamedResults, results_named

_MOST_CLASSES = 40
_MAIN = ("accuracy", "top1")  # what parts of a test set are compared by
_RERANKED = "rerank_"
_HOW = "ivjax eval {run} --suite SUITE --data DATA --out {run}/SUITE.json"


def scores(runs: Sequence[RunFacts]) -> Iterator[Found]:
    """Yields the section of all results of evals."""
    suites = dict.fromkeys(result.suite for run in runs for result in run.results)
    body = "".join(_suite(results_named(runs, suite)) for suite in suites)
    if body:
        yield Section("evals", "Evals", body)
    for run in runs:
        if not run.results and run.checkpoint is not None:
            yield Absent(f"evals of {run.label}", _HOW.format(run=run.folder))


def _suite(tested: NamedResults) -> str:
    """Returns the metrics of all results of one suite as a table, and what belongs to each."""
    suite = tested[0][1].suite
    parts = [_metrics(suite, tested), *_groups(tested)]
    for name, result in tested:
        if any(one.get("name") for one in result.classes):
            parts.append(details(f"{name}, by class", _classes(name, result)))
        parts.append(details(f"{name}, how it was scored", _protocol(name, result)))
    return "".join([f"<h3>{escaped(suite)}</h3>", *parts])


def _metrics(suite: str, tested: NamedResults) -> str:
    """Returns a table of metrics: a column for each result, or a row for each direction of a ranking."""
    found: dict[str, dict[str, float]] = {}
    for name, result in tested:
        for metric, value in result.metrics.items():
            direction, rest = _direction(metric)
            found.setdefault(f"{name}, {direction}" if direction else name, {})[rest] = value
    metrics = list(dict.fromkeys(metric for values in found.values() for metric in values))
    if len(found) > len(tested):
        rows: list[list[Cell]] = [[n, *(values.get(m) for m in metrics)] for n, values in found.items()]
        return table(f"{suite}: percent, or ranks", ("", *metrics), rows)
    rows = [[metric, *(values.get(metric) for values in found.values())] for metric in metrics]
    return table(f"{suite}: percent, or ranks", ("metric", *found), rows)


def _direction(metric: str) -> tuple[str, str]:
    """Returns the direction of a ranking's metric in words, and the rest: `t2v_rerank_r1` is `r1` of one."""
    side, _, rest = metric.partition("_")
    words = [SIDES[side]] if side in SIDES else []
    rest = rest if words else metric
    if rest.startswith(_RERANKED):
        words.append("reranked")
    return ", ".join(words), rest.removeprefix(_RERANKED)


def _groups(tested: NamedResults) -> Iterator[str]:
    """Yields tables of parts of the test sets; several results side by side by their main metric."""
    kinds = dict.fromkeys(str(group.get("by")) for _, result in tested for group in result.groups)
    # Cells and lengths of haystacks have a section of their own.
    for kind in (kind for kind in kinds if kind not in (CELL, LENGTH)):
        having = [(name, result) for name, result in tested if result.rows_by(kind)]
        main = next((name for name in _MAIN if name in having[0][1].rows_by(kind)[0]), None)
        whole = [group_table(f"{name}, by {kind}", result.rows_by(kind)) for name, result in having]
        if len(having) == 1 or main is None:
            yield from whole
            continue
        yield _compared(having, kind, main)
        yield details(f"by {kind}, all metrics", "".join(whole))


def _compared(having: NamedResults, kind: str, metric: str) -> str:
    columns = [
        {str(row.get("name")): row.get(metric) for row in result.rows_by(kind)} for _, result in having
    ]
    groups = dict.fromkeys(group for column in columns for group in column)
    rows: list[list[Cell]] = [[group, *(column.get(group) for column in columns)] for group in groups]
    return table(f"{metric} by {kind}, %", ("", *(name for name, _ in having)), rows)


def group_table(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a table of groups, one a row."""
    columns = list(dict.fromkeys(column for row in rows for column in row if column not in ("by", "name")))
    heads = ("", *(column.replace("_", " ") for column in columns))
    return table(name, heads, [[str(row.get("name")), *(row.get(c) for c in columns)] for row in rows])


def _classes(name: str, result: EvalResult) -> str:
    worst = sorted(result.classes, key=lambda one: one["top1"])[:_MOST_CLASSES]
    rows = [[str(one["name"] or one["class"]), one["clips"], one["top1"]] for one in worst]
    found = table(f"{name}, the worst classes first", ("class", "clips", "right, %"), rows)
    if len(worst) < len(result.classes):
        found += paragraph(f"The {len(worst)} worst of {len(result.classes)} classes.", "note")
    return found


def _protocol(name: str, result: EvalResult) -> str:
    told = [(str(fact), _told(value)) for fact, value in result.protocol.items()]
    rows = [("file", str(result.file)), *told, ("broken", str(result.broken))]
    return table(f"{name}, how it was scored", ("fact", "value"), rows, "config")


def _told(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(inner)}" for name, inner in value.items())
    return ", ".join(map(_told, value)) if isinstance(value, list) else str(value)
