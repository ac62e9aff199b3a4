"""Config files: which ones are shipped, and the experiment that one defines."""

import importlib.util
from pathlib import Path

import ivjax
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment


def shipped_configs() -> dict[str, Path]:
    """Returns the experiments that come with the package, by name."""
    for parent in ivjax.__path__:
        folder = Path(parent) / "configs"
        if folder.is_dir():
            return {f.stem: f for f in sorted(folder.glob("*.py")) if not f.stem.startswith("_")}
    return {}


def load_experiment(name: str) -> Experiment:
    """Returns the `experiment` of a config file, given by path or by the name of a shipped one."""
    path = Path(name) if name.endswith(".py") else shipped_configs().get(name)
    if path is None or not path.is_file():
        known = ", ".join(shipped_configs())
        raise UserError(f"no config {name!r}; give a path to a .py file, or one of: {known}")
    spec = importlib.util.spec_from_file_location(f"ivjax_config_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"config {path} fails with {type(error).__name__}: {error}") from error
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise UserError(f"config {path} defines no `experiment = Experiment(...)`")
    return experiment
