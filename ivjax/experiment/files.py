"""Config files: the shipped ones, the experiment that a file defines, and its named variants."""

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ivjax.errors import UserError, nearest
from ivjax.experiment.batches import follow_batch
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.overrides import apply_overrides
from ivjax.progress import Say

Overrides = tuple[str, ...]  # `path=value` words


class ConfigName(NamedTuple):
    """A config as it is named on a command line: CONFIG, or CONFIG:variant+variant.

    Attributes:
        file: the path of a .py file, or the name of a shipped config.
        variants: names of variants of the file, applied in this order.
    """

    file: str
    variants: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """The part of the name that chooses variants, or nothing."""
        return f":{'+'.join(self.variants)}" if self.variants else ""


def parse_name(name: str) -> ConfigName:
    """Returns the parts of a name such as `finetune_1b_k400:k700_f16`."""
    file, colon, variants = name.rpartition(":")
    # A colon before a slash belongs to a folder's name.
    if not colon or "/" in variants or not file:
        return ConfigName(name)
    return ConfigName(file, tuple(variants.split("+")))


def shipped_configs() -> dict[str, Path]:
    """Returns the experiments that come with the package, by name."""
    # Found as a package: a checkout has configs/ beside ivjax/, a wheel inside it. It is not imported.
    spec = importlib.util.find_spec("ivjax.configs")
    assert spec and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    return {f.stem: f for f in sorted(folder.glob("*.py")) if not f.stem.startswith("_")}


def load_experiment(name: str, overrides: Sequence[str] = (), say: Say | None = None) -> Experiment:
    """Returns the experiment of a config, with its variants and then the overrides applied.

    Every command reads configs through this function. `say` is told what the user should know about.
    """
    file, variants = parse_name(name)
    module = _module(file)
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise UserError(f"config {file} defines no `experiment = Experiment(...)`")
    known = _variants(module)
    for variant in variants:
        if variant not in known:
            there = f"its variants are {', '.join(known)}" if known else "it has none"
            raise UserError(f"config {file} has no variant {variant!r} ({there}){nearest(variant, known)}")
        experiment = apply_overrides(experiment, known[variant])
    return with_overrides(experiment, overrides, say)


def with_overrides(experiment: Experiment, overrides: Sequence[str], say: Say | None = None) -> Experiment:
    """Returns the experiment with a user's overrides; steps and rates follow the batch where it says so."""
    return follow_batch(experiment, apply_overrides(experiment, overrides), overrides, say)


def with_each(experiment: Experiment, runs: Iterable[Overrides], say: Say | None = None) -> list[Experiment]:
    """Returns the experiment with the overrides of each of several runs; `say` is told each line once."""
    lines: list[str] = []
    experiments = [with_overrides(experiment, overrides, lines.append) for overrides in runs]
    if say is not None:
        for line in dict.fromkeys(lines):
            say(line)
    return experiments


def variants_of(file: str) -> dict[str, Overrides]:
    """Returns the named variants of a config file, each a tuple of overrides."""
    return _variants(_module(file))


def _variants(module: ModuleType) -> dict[str, Overrides]:
    found = getattr(module, "variants", {})
    # ("path=value") without a comma is a text, and its letters would be taken for overrides.
    if not isinstance(found, Mapping) or any(isinstance(changes, str) for changes in found.values()):
        raise UserError(f'config {module.__file__}: variants is not {{"name": ("path=value", ...), ...}}')
    return {str(name): tuple(changes) for name, changes in found.items()}


def _module(file: str) -> ModuleType:
    path = Path(file) if file.endswith(".py") else shipped_configs().get(file)
    if path is None or not path.is_file():
        shipped = shipped_configs()
        known = f"give a path to a .py file, or one of: {', '.join(shipped)}"
        raise UserError(f"no config {file!r}; {known}{nearest(file, shipped)}")
    spec = importlib.util.spec_from_file_location(f"ivjax_config_{path.stem}", path)
    assert spec and spec.loader
    # Not kept in sys.modules: files of the same name in two folders must not meet.
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    # These say already what is wrong; other exceptions get the file's name.
    except UserError:
        raise
    # A config that ends the program would leave neither a sentence nor the status of one.
    except (Exception, SystemExit, GeneratorExit) as error:
        raise UserError(f"config {path} fails with {type(error).__name__}: {error}") from error
    return module
