"""The head of a model card: what the Hub reads of it, in YAML."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ivjax.convert.loading import Loaded
from ivjax.errors import UserError
from ivjax.models.dialogue.model import DialogueModel
from ivjax.report.facts.eval_results import EvalResult

_IDENTIFIER = re.compile(r"[\w.-]+(/[\w.-]+)?")  # of a model or a dataset on the Hub


@dataclass(frozen=True)
class CardOptions:
    """What a card says and no weights do.

    Attributes:
        license: an identifier as the Hub knows them, such as apache-2.0; None: the card states none.
        base_models: models on the Hub that it was made from, such as friends/encoder.
        datasets: datasets on the Hub that it was trained on.
        evals: results of `ivjax eval --out`.
    """

    license: str | None = None
    base_models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    evals: tuple[str, ...] = ()


def check_card_options(options: CardOptions) -> None:
    """Raises UserError for identifiers that the Hub refuses."""
    if options.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", options.license):
        raise UserError(
            f"license {options.license!r} is no identifier of the Hub, such as apache-2.0 or other"
        )
    for what, names in (("base model", options.base_models), ("dataset", options.datasets)):
        for name in names:
            if not _IDENTIFIER.fullmatch(name):
                raise UserError(f"{what} {name!r} is no name on the Hub, such as friends/{what.split()[-1]}")


def front_matter(
    name: str, loaded: Loaded, family: str, options: CardOptions, results: Sequence[EvalResult]
) -> str:
    """Returns the head of a card, between its fences."""
    import yaml

    content: dict[str, Any] = {
        "license": options.license,
        "library_name": "ivjax",
        "pipeline_tag": pipeline_tag(loaded),
        "tags": list(filter(None, ["ivjax", "jax", "video", family])),
        "base_model": list(options.base_models),
        "datasets": list(options.datasets),
        "model-index": [{"name": name, "results": [_indexed(result) for result in results]}]
        if results
        else [],
    }
    given = {key: value for key, value in content.items() if value}
    return f"---\n{yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=1000)}---\n"


def pipeline_tag(loaded: Loaded) -> str:
    """Returns the Hub's word for what a model does."""
    if isinstance(loaded.model, DialogueModel):
        return "video-text-to-text"
    if hasattr(loaded.model.size, "classes"):
        return "video-classification"
    # Only tokenizers of language models make parts of texts.
    return "text-generation" if hasattr(loaded.tokenizer, "pieces") else "feature-extraction"


_TASKS: Mapping[str, str] = {"classify": "video-classification", "probe": "video-classification"}


def _indexed(result: EvalResult) -> dict[str, Any]:
    """Returns a result in the form of the Hub's model index."""
    data = data_name(result)
    return {
        "task": {"type": _TASKS.get(result.suite, result.suite), "name": result.suite},
        "dataset": {"type": data, "name": data},
        "metrics": [{"type": name, "value": value, "name": name} for name, value in result.metrics.items()],
    }


def data_name(result: EvalResult) -> str:
    """Returns what a test set is called, without the folder in which it lies."""
    return result.data.rstrip("/").rpartition("/")[2] or "unnamed"
