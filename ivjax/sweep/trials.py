"""The runs of a sweep: which overrides each has, and what it is called."""

import hashlib
import importlib.util
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivjax.errors import UserError
from ivjax.experiment.files import Overrides
from ivjax.experiment.overrides import expand

_LONGEST_NAME = 150  # characters; file systems take 255 bytes


@dataclass(frozen=True)
class Trial:
    """One run of a sweep. `swept` are its values, as text, at the paths in which runs differ."""

    name: str
    overrides: Overrides
    swept: dict[str, str]


def combinations(overrides: Sequence[str], walk: bool = False, file: Path | None = None) -> list[Overrides]:
    """Returns the overrides of each run.

    Args:
        overrides: overrides whose values may be comma lists.
        walk: whether the lists are walked together; otherwise all combinations are taken.
        file: a Python file with further runs, each of which is combined with each of these.
    """
    base = _zipped(overrides) if walk else list(expand(overrides))
    # Read once: a file that draws its runs would give each of these other ones.
    listed = _listed(file) if file else [()]
    return [first + more for first in base for more in listed]


def _zipped(overrides: Sequence[str]) -> list[Overrides]:
    lists = {override: [value for (value,) in expand([override])] for override in overrides}
    lengths = {override: len(values) for override, values in lists.items() if len(values) > 1}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{override} has {length}" for override, length in lengths.items())
        raise UserError(f"--zip walks lists of one length together, but {counts}; make them equally long")
    # Overrides with a single value are repeated for each run.
    runs = max(lengths.values(), default=1)
    return list(zip(*(values * (runs // len(values)) for values in lists.values()), strict=True)) or [()]


def _listed(file: Path) -> list[Overrides]:
    """Returns the `runs` of a Python file, which are strings or tuples of overrides."""
    spec = importlib.util.spec_from_file_location(f"ivjax_sweep_{file.stem}", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise UserError(f"--list {file}: there is no such Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"--list {file} fails with {type(error).__name__}: {error}") from error
    runs = getattr(module, "runs", None)
    if not isinstance(runs, Iterable) or isinstance(runs, str):
        raise UserError(
            f'--list {file} defines no runs = ["path=value ...", ("path=value", "path=value"), ...]'
        )
    return [tuple(shlex.split(run)) if isinstance(run, str) else tuple(map(str, run)) for run in runs]


def trials_of(runs: Sequence[Overrides]) -> list[Trial]:
    """Names the runs after the values in which they differ; two equal runs are an error."""
    if not runs:
        raise UserError("the sweep has no runs; give path=value1,value2 or a --list with some")
    chosen = [dict(override.split("=", 1) for override in run) for run in runs]
    paths = list(dict.fromkeys(path for values in chosen for path in values))
    swept = [path for path in paths if len({values.get(path) for values in chosen}) > 1]
    trials: dict[str, Trial] = {}
    for overrides, values in zip(runs, chosen, strict=True):
        own = {path: values[path] for path in swept if path in values}
        name = _name(own)
        if name in trials:
            raise UserError(f"two runs of the sweep have the same overrides, {' '.join(overrides) or 'none'}")
        trials[name] = Trial(name, tuple(overrides), own)
    return list(trials.values())


def _name(values: dict[str, Any]) -> str:
    """Returns a folder name; if characters had to be replaced, a digest keeps it unique."""
    text = ",".join(f"{path}={value}" for path, value in values.items()) or "as_is"
    safe = re.sub(r"[^A-Za-z0-9._=,+-]", "_", text)
    if safe == text and len(text) <= _LONGEST_NAME:
        return text
    return f"{safe[:_LONGEST_NAME]}.{hashlib.sha256(text.encode()).hexdigest()[:8]}"
