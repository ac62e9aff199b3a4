"""Which suite a command asks for, with its options checked before any model is opened."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ivjax.errors import UserError
from ivjax.evals.choice import ChoiceOptions, choose
from ivjax.evals.embed import Setting
from ivjax.evals.protocols import protocol_named
from ivjax.evals.result import Result
from ivjax.evals.retrieval import RetrievalOptions, Ties, retrieve
from ivjax.evals.scores import Scoring
from ivjax.evals.zeroshot import NamingOptions, name_clips


@dataclass(frozen=True)
class Asked:
    """All options of all suites; None where nothing was said."""

    suite: Literal["retrieval", "zeroshot"]
    scoring: Scoring = Scoring()
    protocol: str | None = None
    ties: Ties | None = None
    temperature: float | None = None
    attribute: str | None = None
    classes: Path | None = None
    prompts: tuple[str, ...] = ()


def suite_of(asked: Asked) -> Callable[[Setting], Result]:
    """The suite, which wants only a model and data; UserError for an option that it does not have."""
    if asked.suite == "zeroshot":
        _refuse(asked, "zeroshot", "protocol", "ties", "temperature")
        naming = NamingOptions(asked.attribute, asked.classes, asked.prompts, asked.scoring)
        return functools.partial(name_clips, options=naming)
    name = asked.protocol or "none"
    if protocol_named(name).task == "choice":
        _refuse(asked, "multiple choice", "ties", "attribute", "classes", "prompts")
        temperature = ChoiceOptions.temperature if asked.temperature is None else asked.temperature
        choice = ChoiceOptions(name, asked.scoring, temperature)
        return functools.partial(choose, options=choice)
    _refuse(asked, "retrieval", "temperature", "attribute", "classes", "prompts")
    retrieval = RetrievalOptions(name, asked.scoring, asked.ties or RetrievalOptions.ties)
    return functools.partial(retrieve, options=retrieval)


def _refuse(asked: Asked, suite: str, *names: str) -> None:
    for name in names:
        if getattr(asked, name) not in (None, ()):
            raise UserError(f"{suite} has no option {name!r}; leave it out, or choose another suite")
