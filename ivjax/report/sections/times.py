"""Where the time of runs went, and how fast their steps were."""

import statistics
from collections.abc import Iterator, Sequence

from ivjax.report.chart import ChartLine, line_chart
from ivjax.report.facts.run_facts import RunFacts
from ivjax.report.markup import Absent, Cell, Found, Section, duration, escaped, legend, paragraph, table
from ivjax.train.ledger import CATEGORIES

_RATES = ("clips/s", "tokens/s", "TFLOP/s/device", "MFU", "data_wait")


def ledger(runs: Sequence[RunFacts]) -> Iterator[Found]:
    """Yields the section of the time ledgers."""
    booked = [run for run in runs if sum(run.times.values())]
    if booked:
        key = "".join(
            f'<li><span class="key time{place}" aria-hidden="true"></span>{escaped(name)}</li>'
            for place, name in enumerate(CATEGORIES)
        )
        bars = f'<ul class="legend">{key}</ul>' + "".join(_bar(run) for run in booked)
        rows = [(run.label, *shares(run).values(), sum(run.times.values())) for run in booked]
        heads = ("run", *(f"{name}, %" for name in CATEGORIES), "all, s")
        body = bars + table("Time of all starts of a run", heads, rows)
        yield Section("time", "Where the time went", body)
    for run in runs:
        if run not in booked:
            yield Absent(
                f"times of {run.label}: it has no ledger.json", f"ivjax train ... --workdir {run.folder}"
            )


def shares(run: RunFacts) -> dict[str, float]:
    """Returns the share of each category in the time of a run, in percent with one digit."""
    whole = sum(run.times.values())
    return {name: round(100 * run.times.get(name, 0.0) / whole, 1) for name in CATEGORIES}


def _bar(run: RunFacts) -> str:
    parts = [(place, name, share) for place, (name, share) in enumerate(shares(run).items()) if share]
    told = ", ".join(f"{name} {share:g} %" for _, name, share in parts)
    drawn = "".join(
        f'<span class="time{place}" style="flex-grow:{share:g}" title="{escaped(name)} {share:g} %"></span>'
        for place, name, share in parts
    )
    seconds = sum(run.times.values())
    return (
        f'<p class="bar-name">{escaped(run.label)}: {duration(seconds)}</p>'
        f'<div class="bar" role="img" aria-label="{escaped(f"{run.label}: {told}")}">{drawn}</div>'
    )


def speed(runs: Sequence[RunFacts]) -> Iterator[Found]:
    """Yields the section of throughput, MFU, and waiting for data."""
    timed = [run for run in runs if run.points("clips/s")]
    if not timed:
        return
    rows = [_rates(run) for run in timed]
    body = table("Median of all log lines but the first", ("run", *_RATES[:-1], "data wait, %"), rows)
    if all(row[4] == "unknown" for row in rows):
        body += paragraph("MFU is unknown: the peak rate of this kind of device is not known.", "note")
    lines = [ChartLine(run.label, run.points("clips/s"), runs.index(run)) for run in timed]
    waits = [
        ChartLine(run.label, [(step, 100 * wait) for step, wait in run.points("data_wait")], runs.index(run))
        for run in timed
    ]
    charts = line_chart("clips a second", lines) + line_chart(
        "share of the steps' time that waits for data, %", waits
    )
    key = legend([run.label for run in runs]) if len(runs) > 1 else ""
    yield Section("speed", "Throughput", f'{body}{key}<div class="charts">{charts}</div>')


def _rates(run: RunFacts) -> list[Cell]:
    found: list[Cell] = [run.label]
    for name in _RATES:
        # The first line has steps in it that warm up.
        values = [value for _, value in run.points(name)][1:] or [value for _, value in run.points(name)]
        rate = statistics.median(values) if values else None
        if name == "data_wait" and rate is not None:
            rate *= 100
        found.append("unknown" if rate is None else rate)
    return found
