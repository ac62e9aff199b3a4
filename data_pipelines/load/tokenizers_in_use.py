"""The tokenizers that an experiment's data is read with."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ivjax.data_pipelines.fields.field import Field
from ivjax.data_pipelines.load.mixture import readers_of
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.kept_files import NamedFile
from ivjax.experiment.listing import leaves

_OPTIONS = ("tokenizer", "question")  # of fields of words; a bridge may have words of its own


class UsedTokenizer(NamedTuple):
    """A tokenizer of an experiment's data.

    Attributes:
        field: name of the field that encodes with it.
        path: where the field's options stand in the experiment, for messages.
        tokenizer: words to ids.
        option: the field's option that it is. Only that of `tokenizer` encodes words of the stage.
    """

    field: str
    path: str
    tokenizer: Tokenizer
    option: str = "tokenizer"


def tokenizers_of(data: object) -> Iterator[UsedTokenizer]:
    """Yields the tokenizers of all media: a mixture's own, then those of corpora that have others."""
    for path, mixture in readers_of(data).items():
        yield from _found(mixture.fields, {name: f"{path}.fields.{name}" for name in mixture.fields})
        for eval_clips in (False, True):
            for corpus in mixture.corpus_fields(path, eval_clips):
                yield from _found(corpus.fields, corpus.changed)


def _found(fields: Mapping[str, Field], paths: Mapping[str, str]) -> Iterator[UsedTokenizer]:
    for name, path in paths.items():
        # Not asked for its class, so that a new field of words is found without an edit here.
        for option in _OPTIONS:
            tokenizer = getattr(fields[name], option, None)
            if tokenizer is not None:
                yield UsedTokenizer(name, path, tokenizer, option)


def vocabularies_of(experiment: Experiment) -> dict[str, NamedFile]:
    """Returns the vocabulary files of an experiment by the option that names each.

    Without those that `changes` of a corpus name: no model reads by them, and the corpus is elsewhere too.
    """
    known = leaves(experiment)
    found = {f"{used.path}.{used.option}.path": used.tokenizer for used in tokenizers_of(experiment.data)}
    return {
        option: NamedFile(known[option], getattr(tokenizer, "BESIDE", ()))
        for option, tokenizer in found.items()
        if known.get(option)
    }


def caption_tokenizer(experiment: Experiment) -> Tokenizer | None:
    """Returns the tokenizer of the field that the stage reads captions or dialogues from, or None."""
    # By the field's name: a mixture may hold fields of other words too.
    name = getattr(experiment.stage, "caption_field", None)
    name = name or getattr(experiment.stage, "dialogue_field", None)
    used = (used for used in tokenizers_of(experiment.data) if used.option == "tokenizer")
    return next((found.tokenizer for found in used if found.field == name), None)
