"""The typed experiment: read from a file, overridden by dotted path, printed, compared."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import ivjax
from ivjax.data_pipelines.load.mixture import Media
from ivjax.errors import UserError
from ivjax.models.layers import Remat
from ivjax.stages.objective import Compute, Stage
from ivjax.train.checkpoint import Checkpointing
from ivjax.train.mesh import MeshShape
from ivjax.train.metrics import Logging
from ivjax.train.optimizer import AdamW
from ivjax.train.schedule import FlooredCosine, WarmupCosine
from ivjax.train.step import Recipe


class DataSource(Protocol):
    """A typed description of where clips come from."""

    def open(self, reading: Any, held_out: bool = False) -> Any:
        """A Loader of what a Reading asks for; held-out clips are never trained on."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """The loss on clips that are not trained on: every `every` steps (0: never), over `batches` batches."""

    every: int = 0
    batches: int = 4


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run. `batch` counts clips over all devices and accumulation parts.

    `init_from` are weight files or run folders to start from: FILE, or PART=FILE for a part of the model
    alone, with FILE#BRANCH for a branch of what the file holds and FILE?head=... for some of its classes
    (docs/weights.md). Parameters that none of them holds must match a pattern of `init_fresh`.
    """

    stage: Stage
    data: DataSource | Media
    batch: int
    steps: int
    schedule: WarmupCosine | FlooredCosine
    optimizer: AdamW = AdamW()
    seed: int = 0
    accumulate: int = 1
    ema: float | None = None
    mesh: MeshShape = MeshShape()
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    remat: Remat = "none"
    scan_layers: bool = True
    checkpoint: Checkpointing = Checkpointing()
    log: Logging = Logging()
    held_out: HeldOut = HeldOut()
    init_from: tuple[str, ...] = ()
    init_fresh: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = {
            "batch": self.batch,
            "steps": self.steps,
            "accumulate": self.accumulate,
            "checkpoint.every": self.checkpoint.every,
            "checkpoint.keep_last": self.checkpoint.keep_last,
            "log.every": self.log.every,
            "held_out.batches": self.held_out.batches,
        }
        for path, count in counts.items():
            if count < 1:
                raise UserError(f"{path}={count}; it must be at least 1")
        if self.ema is not None and not 0.0 < self.ema < 1.0:
            raise UserError(f"ema={self.ema}; it must lie between 0 and 1, or be none")

    @property
    def compute(self) -> Compute:
        """How the stage is to compute."""
        return Compute(self.dtype, self.remat, self.scan_layers)

    @property
    def recipe(self) -> Recipe:
        """How gradients become steps."""
        return Recipe(self.optimizer, self.schedule, self.steps, self.accumulate, self.ema, self.seed)


def shipped_configs() -> dict[str, Path]:
    """The experiments that come with the package, by name."""
    for parent in ivjax.__path__:
        folder = Path(parent) / "configs"
        if folder.is_dir():
            return {f.stem: f for f in sorted(folder.glob("*.py")) if not f.stem.startswith("_")}
    return {}


def load_experiment(name: str) -> Experiment:
    """The `experiment` of a config file, given by path or by the name of a shipped one."""
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


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """Every value of an experiment by dotted path; what is typed by class appears as `path` = class."""
    if not dataclasses.is_dataclass(value):
        return {prefix.rstrip("."): value}
    found = {prefix.rstrip("."): type(value)} if prefix else {}
    for field in dataclasses.fields(value):
        found |= leaves(getattr(value, field.name), f"{prefix}{field.name}.")
    return found


def show(value: Any) -> str:
    """A value as an override would write it."""
    if isinstance(value, type):
        return value.__name__
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"({', '.join(map(show, value))}{',' if len(value) == 1 else ''})"
    return str(value)


def resolved_text(experiment: Experiment) -> str:
    """The whole experiment, one `path = value` a line."""
    return "".join(f"{path} = {show(value)}\n" for path, value in leaves(experiment).items())


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Lines `path: old -> new` for the values that differ between two sets of leaves."""
    absent = "(absent)"
    paths = [*after, *(path for path in before if path not in after)]
    pairs = ((p, show(before.get(p, absent)), show(after.get(p, absent))) for p in paths)
    return [f"{path}: {old} -> {new}" for path, old, new in pairs if old != new]


def to_json(experiment: Experiment) -> dict[str, str]:
    """The resolved experiment as stored with a run and in each checkpoint."""
    return {path: show(value) for path, value in leaves(experiment).items()}
