"""Clips that captions find, as contact sheets."""

from ivjax.report.facts.retrieval_hits import QueryHits
from ivjax.report.facts.run_facts import RunFacts
from ivjax.report.film import Film, Strip
from ivjax.report.markup import file_name


def hit_films(run: RunFacts, found: list[QueryHits]) -> list[Film]:
    """Returns a film for each caption, with the best clips side by side."""
    name = file_name(run.label)
    return [_film(run, query, f"hits_{name}_{number}") for number, query in enumerate(found, 1)]


def _film(run: RunFacts, query: QueryHits, name: str) -> Film:
    strips = []
    for place, hit in enumerate(query.hits, 1):
        verdict = "right" if hit.right else "wrong"
        words = f"{place}. {'right: ' if hit.right else ''}{hit.words} ({hit.cosine:.3f})"
        strips.append(Strip(hit.frames, f"hit {place}, {verdict}: {hit.words}", words, verdict))
    rank = f"the right clip comes {_ordinal(query.rank)} of {query.clips}"
    return Film(f"{run.label}: \u201c{query.caption}\u201d; {rank}", tuple(strips), name)


def _ordinal(number: int) -> str:
    tail = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{tail}"
