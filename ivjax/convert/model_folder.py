"""Writes a model as a folder that is read anywhere: weights, sizes, vocabulary, class names, settings."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ivjax.convert.comparison import ImportChoices, compare
from ivjax.convert.engine.family import Family
from ivjax.convert.engine.own_format import metadata
from ivjax.convert.folder_weights import CONFIG, stored_step
from ivjax.convert.formats.tensors import LazyTensor
from ivjax.convert.formats.writing import SHARD_BYTES, write_safetensors
from ivjax.convert.origins import open_weights, params_of_run
from ivjax.convert.registry import family_of_stage
from ivjax.convert.tokenizer_choice import named_tokenizer, tokenizer_beside
from ivjax.data_pipelines.load.tokenizers_in_use import vocabularies_of
from ivjax.data_pipelines.sources.classes import read_classes
from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.experiment.branches import replaced
from ivjax.experiment.buckets import local
from ivjax.experiment.computing import Compute, Dtype
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.kept_files import NamedFile, keep_classes, keep_files, kept_classes
from ivjax.experiment.listing import leaves
from ivjax.experiment.run_folder import WEIGHTS, checkpoint_steps, folder_with_weights
from ivjax.experiment.run_options import Checkpointing, Logging
from ivjax.experiment.storing import is_run, store_experiment, stored_experiment
from ivjax.ops.trees import paths_of
from ivjax.progress import Progress, Say
from ivjax.version import __version__

_PLACES = ("path", "folder")  # options that say where something lies on the machine of a run
_NO_FAMILY = {"format": "pt"}  # of a model that its settings alone describe


@dataclass(frozen=True)
class FolderOptions:
    """Options of a model's folder.

    Attributes:
        shard_bytes: larger weights are written in shards.
        dtype: weights are cast to it; None keeps those of a file, and writes those of a run in float32.
        ema: writes the averaged parameters of a run.
        tokenizer: the vocabulary of a file's text encoder or language model, where none lies beside it.
        classes: a file, or a corpus, with the class names, where a run does not hold them.
    """

    shard_bytes: int = SHARD_BYTES
    dtype: Dtype | None = None
    ema: bool = False
    tokenizer: str | None = None
    classes: str | None = None


class _Model(NamedTuple):
    """A model to be written.

    Attributes:
        leaves: its parameters by path.
        model: what computes with them.
        family: the family of checkpoints that it is of; None: none.
        preset: the name of its sizes.
        step: the step of the run after which the parameters were taken; None for a file.
    """

    leaves: Sequence[LazyTensor]
    model: Any
    family: Family | None
    preset: str = ""
    step: int | None = None


def write_model_folder(weights: str, folder: Path, options: FolderOptions, say: Say) -> None:
    """Writes the model of a run folder or of a weight file into a folder that `ivjax.load` opens."""
    place = local(weights).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if is_run(place):
        if options.tokenizer is not None:
            raise UserError(f"{weights} is a run, which holds its own vocabulary; leave out the tokenizer")
        found = _of_run(place, folder, options.ema)
    elif options.ema:
        raise UserError(
            f"{weights} is a file, which holds no averaged parameters beside its own; leave out ema"
        )
    else:
        found = _of_file(weights, folder, options)
    _write_classes(place, folder, found.model, options.classes)
    dtype = None if options.dtype is None else np.dtype(options.dtype)
    tensors = [leaf if dtype is None else dataclasses.replace(leaf, dtype=dtype) for leaf in found.leaves]
    sizes = found.model.size
    about = _NO_FAMILY if found.family is None else metadata(found.family.name, sizes, found.preset)
    with Progress(len(tensors), "parameters", say) as progress:
        write_safetensors(folder / WEIGHTS, tensors, about, options.shard_bytes, progress.advance)
    config = {
        "library_name": "ivjax",
        "ivjax_version": __version__,
        "model": type(found.model).__name__,
        "family": found.family and found.family.name,
        "preset": found.preset or None,
        "size": type(sizes).__name__,
        "sizes": dataclasses.asdict(sizes),
        "parameters": sum(int(np.prod(tensor.shape)) for tensor in tensors),
        "dtype": " ".join(sorted({str(tensor.dtype) for tensor in tensors})),
        "step": found.step,
    }
    store(folder / CONFIG, json.dumps(config, indent=1) + "\n")


def _of_run(place: Path, folder: Path, ema: bool) -> _Model:
    experiment = stored_experiment(place)
    tensors = [_lazy(path, leaf) for path, leaf in paths_of(params_of_run(place, experiment, ema))]
    there = {name: file for name, file in vocabularies_of(experiment).items() if _exists(file)}
    keep_files(folder, there, nameless=True)
    store_experiment(published(experiment), folder)
    family = family_of_stage(experiment.stage)
    origin = folder_with_weights(place)
    step = max(checkpoint_steps(origin), default=stored_step(origin))
    model = experiment.stage.model(Compute("float32"))
    return _Model(tensors, model, family and family[0], step=step)


def _lazy(path: str, leaf: Any) -> LazyTensor:
    return LazyTensor(path, leaf.shape, np.dtype(leaf.dtype), lambda: [np.asarray(leaf)])


def _exists(file: NamedFile) -> bool:
    return all(source.is_file() for source in file.sources())


def published(experiment: Experiment) -> Experiment:
    """Returns an experiment without what concerns its machine alone: folders, files, evals, logs."""
    plain = dataclasses.replace(
        experiment, init_from=(), evals=(), phases=(), log=Logging(), checkpoint=Checkpointing()
    )
    for path, value in leaves(plain).items():
        *_, name = path.split(".")
        if name in _PLACES and isinstance(value, str):
            plain = replaced(plain, path.split("."), _last(value))
        elif name == "changes" and isinstance(value, tuple):
            plain = replaced(plain, path.split("."), tuple(map(_without_folder, value)))
    return plain


def _last(place: str) -> str:
    return place.rstrip("/").rpartition("/")[2]


def _without_folder(change: str) -> str:
    option, equals, value = change.partition("=")
    return option + equals + (_last(value) if option.rpartition(".")[2] in _PLACES else value)


def _of_file(weights: str, folder: Path, options: FolderOptions) -> _Model:
    compared = compare(open_weights(weights), weights, ImportChoices())
    # Before anything is written: a file that does not fit leaves no half of a folder.
    compared.report.check(weights)
    family, sizes = compared.file.family, compared.sizes
    model, own = family.model(sizes, "float32"), family.tokenizer(sizes)
    if options.tokenizer is not None:
        tokenizer: Any = named_tokenizer(weights, model, own, options.tokenizer)
    else:
        tokenizer = tokenizer_beside(weights, model, own)
    if getattr(tokenizer, "path", ""):
        _copy_vocabulary(tokenizer, folder)
    return _Model(compared.leaves(), model, family, compared.preset or "")


def _copy_vocabulary(tokenizer: Any, folder: Path) -> None:
    """Copies the files of a tokenizer to where `ivjax.load` finds them: beside the weights."""
    first, *others = NamedFile(tokenizer.path, getattr(tokenizer, "BESIDE", ())).sources()
    is_folder = Path(tokenizer.path).expanduser().is_dir()
    shutil.copyfile(first, folder / (first.name if is_folder else _name_beside(tokenizer, first)))
    for other in others:
        shutil.copyfile(other, folder / other.name)


def _name_beside(tokenizer: Any, file: Path) -> str:
    """Returns what a vocabulary file is called beside weights."""
    name: str | None = getattr(tokenizer, "FILE", None)
    return name or ("tokenizer.json" if file.suffix == ".json" else "tokenizer.model")


def _write_classes(place: Path, folder: Path, model: Any, given: str | None) -> None:
    held = kept_classes(folder_with_weights(place)) if place.is_dir() else ()
    names = read_classes(given) if given else held
    known = getattr(model.size, "classes", None)
    if given and known is None:
        raise UserError(
            f"classes={given} names classes, and a {type(model).__name__} has none; leave them out"
        )
    if names and known is not None and len(names) != known:
        raise UserError(
            f"{given or place} names {len(names)} classes and the model has {known}; give its own names"
        )
    keep_classes(folder, names)
