"""What runs that were trained together took, beside one that was trained alone."""

from collections.abc import Iterator, Mapping
from typing import Any


def describe_group(runs: int, reply: Mapping[str, Any]) -> Iterator[str]:
    """Lines for a person, from the ledgers in a worker's reply."""
    if "together" not in reply:
        return
    whole, steps = _times(reply["together"])
    yield f"{runs} runs together took {whole:.1f} s, {whole / runs:.1f} s each; steps: {steps:.1f} s"
    if "alone" not in reply:
        return
    alone, own = _times(reply["alone"])
    yield (
        f"one alone took {alone:.1f} s, its steps {own:.1f} s: {runs} runs together cost the time of "
        f"{whole / alone:.2f} single runs, without compilation and start {steps / own:.2f}"
    )
    yield f"losses of the run alone and in the group are at most {reply['apart']:.1e} apart, relatively"


def _times(ledger: Mapping[str, float]) -> tuple[float, float]:
    """Seconds in all, and those of steps and of waiting for their data."""
    return sum(ledger.values()), ledger["step"] + ledger["data wait"]
