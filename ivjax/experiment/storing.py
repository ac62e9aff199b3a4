"""An experiment as JSON, and back: how a run folder remembers what it was trained with."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.experiment import late
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.kept_files import with_kept_files
from ivjax.experiment.listing import resolved_text
from ivjax.experiment.run_folder import folder_with_weights

_FILE = "experiment.json"
_KIND = "is"  # the key under which a value's class stands
# A mapping is marked as one, since a plain JSON object would be taken for a dataclass.
_MAPPING = "mapping"


def store_experiment(experiment: Experiment, folder: Path) -> None:
    """Writes the resolved experiment into a run folder, as text for people and JSON for programs."""
    store(folder / "experiment.txt", resolved_text(experiment))
    store(folder / _FILE, json.dumps(_packed(experiment), indent=1) + "\n")


def stored_experiment(folder: Path) -> Experiment:
    """The experiment that a run folder was trained with; of a run in phases, that of its last phase.

    Vocabularies are those that the folder holds.
    """
    folder = folder_with_weights(folder)
    file = folder / _FILE
    if not file.is_file():
        raise UserError(f"{folder} holds no {_FILE}; is it a run folder?")
    try:
        found = _unpacked(json.loads(file.read_text()))
    # What a class or a field that is gone since then raises.
    except (ValueError, TypeError, AttributeError, KeyError, ImportError, RecursionError) as error:
        raise UserError(
            f"{file} does not describe an experiment of this version of ivjax ({error}); "
            "use the version that the run was made with"
        ) from None
    if not isinstance(found, Experiment):
        raise UserError(f"{file} describes a {type(found).__name__}, not an experiment")
    return with_kept_files(found, folder)


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder_with_weights(path) / _FILE).is_file()


def _packed(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        kind = type(value)
        fields = {field.name: _packed(getattr(value, field.name)) for field in dataclasses.fields(value)}
        # By module and name, so that any class of ivjax is found again without a list of classes.
        return {_KIND: f"{kind.__module__}:{kind.__qualname__}", **fields}
    if isinstance(value, Mapping):
        return {_KIND: _MAPPING, "entries": {str(key): _packed(entry) for key, entry in value.items()}}
    if isinstance(value, tuple | list):
        return [_packed(item) for item in value]
    if value is not None and not isinstance(value, bool | int | float | str):
        raise UserError(
            f"an experiment holds a {type(value).__qualname__}, which cannot be stored with the run; "
            "make it a frozen dataclass"
        )
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        # JSON knows no tuples, and an experiment holds no lists: they could be changed.
        return tuple(_unpacked(item) for item in value)
    if not isinstance(value, dict):
        return value
    if value[_KIND] == _MAPPING:
        return {key: _unpacked(entry) for key, entry in value["entries"].items()}
    kind = _class(value[_KIND])
    return kind(**{field: _unpacked(item) for field, item in value.items() if field != _KIND})


def _class(name: str) -> Any:
    """The dataclass of that name: nothing else that a file names is ever called."""
    module, _, attribute = name.partition(":")
    # A file may come from anybody, and importing a module runs it. A module that is imported
    # already is the user's own choice.
    if module not in sys.modules and module.split(".")[0] != __name__.split(".")[0]:
        raise ValueError(f"{name} is not of ivjax; import {module} first if you trust it")
    kind = late.implementation_of(module, attribute)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise ValueError(f"{name} is no dataclass")
    return kind
