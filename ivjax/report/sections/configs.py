"""The resolved config of each run, and what differs between runs."""

from collections.abc import Iterator, Sequence

from ivjax.report.facts.run_facts import RunFacts
from ivjax.report.markup import Absent, Found, Section, details, paragraph, table

_ABSENT = "(absent)"
_OPEN = 40  # rows of a table that is not folded away


def configs(runs: Sequence[RunFacts]) -> Iterator[Found]:
    """Yields the section of configs: the differences, and all values folded away."""
    stored = [run for run in runs if run.config]
    body = ""
    if len(stored) > 1:
        rows = differences(stored)
        heads = ("option", *(run.label for run in stored))
        told = table("What differs between the runs", heads, rows, "config")
        if len(rows) > _OPEN:
            told = details(f"what differs between the runs: {len(rows)} values", told)
        body += told if rows else paragraph("All values of these runs are equal.")
    for run in stored:
        whole = table(f"Config of {run.label}", ("option", "value"), run.config.items(), "config")
        body += details(f"the resolved config of {run.label}: {len(run.config)} values", whole)
    if stored:
        yield Section("config", "Config", body)
    for run in runs:
        if not run.config:
            yield Absent(
                f"config of {run.label}: it has no experiment.txt", f"ivjax train ... --workdir {run.folder}"
            )


def differences(runs: Sequence[RunFacts]) -> list[tuple[str, ...]]:
    """Returns a row for each option whose values differ: its path, and the value of each run.

    Of a part that a run lacks as a whole there is one row, and none for the options in it.
    """
    paths = dict.fromkeys(path for run in runs for path in run.config)
    rows = [(path, *(run.config.get(path, _ABSENT) for run in runs)) for path in paths]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    lacking = tuple(f"{row[0]}." for row in differing if _ABSENT in row[1:])
    return [row for row in differing if not row[0].startswith(lacking)]
