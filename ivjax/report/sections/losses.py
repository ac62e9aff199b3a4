"""Curves of losses, of their terms, of evals between the steps, and of the optimizer."""

from collections.abc import Iterator, Sequence

from ivjax.report.chart import ChartLine, line_chart
from ivjax.report.facts.run_facts import RunFacts
from ivjax.report.markup import Absent, Found, Section, details, legend, paragraph

_EVAL = "eval/"
_OPTIMIZER = ("lr", "grad_norm")
# Figures that other sections show, or that are no losses.
_RATES = ("step", "skipped", "clips/s", "tokens/s", "TFLOP/s/device", "MFU", "data_wait", "flops")
_ABOUT = (
    "Lines with dots are clips that are never trained on, the others the batches of training as they were "
    "logged. Point at a chart, or focus it and press the arrow keys, to read its values."
)


def losses(runs: Sequence[RunFacts]) -> Iterator[Found]:
    """Yields the section of all curves; says which runs have no held-out loss."""
    logged = list(dict.fromkeys(name for run in runs for line in run.lines for name in line))
    charts = [_chart(runs, name) for name in ("loss", *_terms(logged))]
    suites = [_chart(runs, name) for name in logged if is_suite_metric(name)]
    optimizer = [_chart(runs, name) for name in _OPTIMIZER]
    body = _grid(charts)
    if any(suites):
        body += "<h3>Evals between the steps</h3>" + _grid(suites)
    if any(optimizer):
        body += details("learning rate and gradient norm", _grid(optimizer))
    if any(charts):
        key = legend([run.label for run in runs]) if len(runs) > 1 else ""
        yield Section("losses", "Losses", paragraph(_ABOUT, "note") + key + body)
    for run in runs:
        if run.lines and not run.points("eval/loss"):
            yield Absent(
                f"held-out losses of {run.label}", f"ivjax train ... eval_loss.every=N --workdir {run.folder}"
            )
        if not run.lines:
            yield Absent(f"curves of {run.label}: it has logged nothing yet")


def _terms(logged: Sequence[str]) -> list[str]:
    """Returns the names of terms of the loss, of training and of held-out clips alike."""
    names = (name.removeprefix(_EVAL) for name in logged)
    return [
        name
        for name in dict.fromkeys(names)
        if "/" not in name and name not in (*_RATES, *_OPTIMIZER, "loss")
    ]


def is_suite_metric(name: str) -> bool:
    """Whether a logged name is that of a suite's metric: no loss, no time, and no figure of the data."""
    return (
        "/" in name and name not in _RATES and not name.startswith((_EVAL, "time/")) and "data/" not in name
    )


def _chart(runs: Sequence[RunFacts], name: str) -> str:
    """Returns the chart of a logged name, beside it the same of held-out clips; "" if no run logged it."""
    lines = []
    for colour, run in enumerate(runs):
        trained, held_out = run.points(name), run.points(_EVAL + name)
        if is_suite_metric(name):
            trained, held_out = [], trained
        lines.append(ChartLine(run.label, trained, colour))
        lines.append(ChartLine(f"{run.label}, held out", held_out, colour, held_out=True))
    drawn = [line for line in lines if line.points]
    return line_chart(name, drawn) if drawn else ""


def _grid(charts: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>'
