"""Which suite a command asks for, with its options checked before any model is opened."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ivjax.errors import UserError
from ivjax.evals.choice import ChoiceOptions, choose
from ivjax.evals.classify import ClassifyOptions, Sampling, classify
from ivjax.evals.embed import Setting
from ivjax.evals.probe import Baseline, ProbeOptions, probe
from ivjax.evals.protocols import protocol_named
from ivjax.evals.result import Result
from ivjax.evals.retrieval import RetrievalOptions, Ties, retrieve
from ivjax.evals.scores import Scoring
from ivjax.evals.zeroshot import NamingOptions, name_clips

_WORDS = ("aggregate", "dsl", "dsl_scale", "tokenizer")


@dataclass(frozen=True)
class Asked:
    """All options of all suites; None where nothing was said."""

    suite: Literal["retrieval", "zeroshot", "probe", "classify"]
    scoring: Scoring = Scoring()
    protocol: str | None = None
    ties: Ties | None = None
    temperature: float | None = None
    attribute: str | None = None
    classes: Path | None = None
    prompts: tuple[str, ...] = ()
    tokenizer: str | None = None
    train: str | None = None
    features: Literal["pooled", "mean"] | None = None
    baseline: Baseline | None = None
    crops: int | None = None
    sampling: Sampling | None = None
    predictions: Path | None = None


class Suite(NamedTuple):
    """`open(weights, preset, batch)` gives the model that `score` tests."""

    open: Callable[[str, str | None, int], Any]
    score: Callable[[Setting], Result]


def suite_of(asked: Asked) -> Suite:
    """The suite; UserError for an option that it does not have."""
    makers = {"retrieval": _retrieval, "zeroshot": _zeroshot, "probe": _probe, "classify": _classify}
    return makers[asked.suite](asked)


def _retrieval(asked: Asked) -> Suite:
    name = asked.protocol or "none"
    if protocol_named(name).task == "choice":
        _allow(asked, "multiple choice", "protocol", "temperature", *_WORDS)
        temperature = ChoiceOptions.temperature if asked.temperature is None else asked.temperature
        choice = ChoiceOptions(name, asked.scoring, temperature)
        return _of_words(asked, functools.partial(choose, options=choice))
    _allow(asked, "retrieval", "protocol", "ties", *_WORDS)
    retrieval = RetrievalOptions(name, asked.scoring, asked.ties or RetrievalOptions.ties)
    return _of_words(asked, functools.partial(retrieve, options=retrieval))


def _zeroshot(asked: Asked) -> Suite:
    _allow(asked, "zeroshot", "attribute", "classes", "prompts", *_WORDS)
    naming = NamingOptions(asked.attribute, asked.classes, asked.prompts, asked.scoring)
    return _of_words(asked, functools.partial(name_clips, options=naming))


def _probe(asked: Asked) -> Suite:
    _allow(asked, "probe", "attribute", "train", "features", "baseline")
    if asked.train is None:
        raise UserError("a probe is fitted to other clips than it is tested on; name them with --train")
    options = ProbeOptions(asked.train, asked.attribute, asked.baseline or ProbeOptions.baseline)

    def open(weights: str, preset: str | None, batch: int) -> Any:
        from ivjax.evals.opening import open_features

        return open_features(weights, preset, batch, asked.features)

    return Suite(open, functools.partial(probe, options=options))


def _classify(asked: Asked) -> Suite:
    _allow(asked, "classify", "crops", "sampling", "predictions")
    crops = ClassifyOptions.crops if asked.crops is None else asked.crops
    options = ClassifyOptions(crops, asked.sampling or ClassifyOptions.sampling, asked.predictions)

    def open(weights: str, preset: str | None, batch: int) -> Any:
        from ivjax.evals.opening import open_classifier

        return open_classifier(weights, preset, batch)

    return Suite(open, functools.partial(classify, options=options))


def _of_words(asked: Asked, score: Callable[[Setting], Result]) -> Suite:
    def open(weights: str, preset: str | None, batch: int) -> Any:
        from ivjax.evals.opening import open_encoder

        return open_encoder(weights, preset, asked.tokenizer, batch)

    return Suite(open, score)


def _allow(asked: Asked, suite: str, *names: str) -> None:
    """Raises UserError if any other option was given."""
    said = {name: value for name, value in vars(asked).items() if name not in ("suite", "scoring")}
    for field in dataclasses.fields(Scoring):
        value = getattr(asked.scoring, field.name)
        said[field.name] = None if value == field.default else value
    for name, value in said.items():
        if value not in (None, ()) and name not in names:
            raise UserError(f"{suite} has no option {name!r}; leave it out, or choose another suite")
