"""What results are called in the headings of tables."""

from collections import Counter
from collections.abc import Sequence

from ivjax.report.facts.eval_results import EvalResult
from ivjax.report.facts.run_facts import RunFacts

NamedResults = Sequence[tuple[str, EvalResult]]  # results with what the page calls them


def results_named(runs: Sequence[RunFacts], suite: str) -> NamedResults:
    """Returns the results of a suite, named by their run and, where that is not enough, by their file."""
    found = [(run, result) for run in runs for result in run.results if result.suite == suite]
    names = [" ".join(filter(None, (run.label, result.changed))) for run, result in found]
    times = Counter(names)
    return [
        (f"{name} ({result.file.stem})" if times[name] > 1 else name, result)
        for name, (_, result) in zip(names, found, strict=True)
    ]
