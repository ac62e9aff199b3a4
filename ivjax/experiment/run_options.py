"""Options of a run: optimizer, what trains, phases, checkpoints, logs, evals.

Only values and their checks; the code that obeys them is in ivjax/train.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

from ivjax.errors import UserError
from ivjax.experiment.ranges import Count, Positive, Rate, Within
from ivjax.progress import Say


@dataclass(frozen=True)
class AdamW:
    """AdamW with layer-wise learning rates and clipping by global norm.

    Attributes:
        betas: decay rates of the two moments.
        epsilon: added to the root of the second moment.
        decay: weight decay.
        decay_end: weight decay at the last step, reached along a cosine (None: it stays the same).
        layer_decay: factor of the learning rate from each layer to the one below it.
        clip: largest global gradient norm (None: any).
    """

    # The defaults, decay and clip included, are those of the originals' stage 1.
    betas: tuple[Rate, Rate] = (0.9, 0.98)
    epsilon: Positive = 1e-6
    decay: float = 0.05
    decay_end: float | None = None
    layer_decay: Annotated[float, Within(0, 1, above=True)] = 1.0
    clip: Positive | None = 3.0


@dataclass(frozen=True)
class Trains:
    """The learning rate of parameters by path. The first match decides; without one the factor is 1.

    Attributes:
        pattern: a pattern of parameter paths, as in ivjax/experiment/patterns.py.
        rate: factor of the learning rate; 0 freezes the parameters.
    """

    pattern: str
    rate: float

    def __post_init__(self) -> None:
        if not self.pattern:
            raise UserError("trains: a pattern is empty; name parameters by path, such as 'vision/blocks'")


@dataclass(frozen=True)
class Starts:
    """How wide fresh parameters start, by path: those that are drawn are multiplied. The first match decides.

    Kernels are drawn as the originals draw them, N(0, 0.02), which suits a thousand channels: a model of a
    hundred learns sooner with kernels that are some times as wide.

    Attributes:
        pattern: a pattern of parameter paths, such as `vision/*kernel`.
        times: what the drawn numbers are multiplied by.
    """

    pattern: str
    times: Positive

    def __post_init__(self) -> None:
        if not self.pattern:
            raise UserError("starts: a pattern is empty; name parameters by path, such as 'vision/*kernel'")


@dataclass(frozen=True)
class Phase:
    """One phase of a progressive run.

    Attributes:
        name: names the phase's folder.
        steps: optimizer steps of the phase.
        changes: overrides of the experiment that hold in this phase alone.
    """

    name: str
    steps: Count
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # The name becomes a part of a path.
        if not self.name.replace("_", "").replace("-", "").isalnum():
            raise UserError(f"phases: {self.name!r} is no name for a folder; use letters, digits, _ and -")
        for change in self.changes:
            path = change.partition("=")[0]
            # `steps` is a field of the phase, and has to have one place.
            if "=" not in change or path == "steps" or path.split(".")[0] == "phases":
                raise UserError(
                    f"phases: {self.name!r} changes {change!r}; write path=value, but not for steps or phases"
                )


class Suite(Protocol):
    """A frozen description of an eval (ivjax/evals/suites).

    Attributes:
        name: prefix of its metrics.
        METRICS: names of all metrics that it may return; empty if they are known only once it has run.
    """

    name: ClassVar[str]
    METRICS: ClassVar[tuple[str, ...]]

    def check(self, experiment: Any, data: str) -> None:
        """Raises UserError where `run` would before its first clip: a stage or data that it cannot read."""
        ...

    # The types are Any, because this floor knows neither jax nor models.
    def run(
        self, experiment: Any, params: Any, data: str, mesh: Any, say: Say = print
    ) -> Mapping[str, float]:
        """Returns metrics by name, without a prefix; all processes call it and get the same ones.

        Args:
            experiment: the experiment whose stage and tokenizer belong to the parameters.
            params: all parameters of the stage, the frozen ones too, where they lie on the mesh.
            data: a corpus folder or an annotation file.
            mesh: the devices that compute, of all processes.
            say: takes lines for the person who waits.
        """
        ...


@dataclass(frozen=True)
class EvalRun:
    """An eval suite that runs during training.

    Attributes:
        suite: the suite's options.
        every: steps between two runs.
        data: the shards or the list that the suite reads.
        name: prefix of its metrics (None: the suite's own name).
    """

    suite: Suite
    every: Count
    data: str
    name: str | None = None


@dataclass(frozen=True)
class EvalLoss:
    """The loss on clips that are not trained on.

    Attributes:
        every: steps between two evaluations (0: never).
        batches: batches that the loss is averaged over.
    """

    every: int = 0
    batches: Count = 4


@dataclass(frozen=True)
class Checkpointing:
    """The times of checkpoints, and which of them are kept.

    Attributes:
        every: steps between two checkpoints.
        keep_last: how many of the newest are kept.
        keep_every: checkpoints at multiples of it are kept as well (None: none).
        best: the metric whose best checkpoint is kept as well, such as `retrieval/t2v_r1`; with the
            prefix `-` the lowest value is best.
    """

    every: Count = 1000
    # Two, because a run falls back to the one before if the newest cannot be read.
    keep_last: Count = 2
    keep_every: Count | None = None
    best: str | None = None

    def __post_init__(self) -> None:
        # A lone "-" would choose the lowest of nothing.
        if self.best is not None and not self.best.removeprefix("-"):
            raise UserError("checkpoint.best names no metric; give one such as eval/loss with the prefix -")


# What shows the numbers of a run beside its own files.
TrackerName = Literal["tensorboard", "wandb", "mlflow"]


@dataclass(frozen=True)
class Logging:
    """Log lines and the profiler.

    Attributes:
        every: steps between two log lines.
        to: what shows the numbers of a run, beside its metrics.jsonl.
        profile_start: step at which a profile begins (None: no profile).
        profile_steps: steps of the profile.
    """

    every: Count = 10
    to: tuple[TrackerName, ...] = ("tensorboard",)
    profile_start: int | None = None
    profile_steps: Count = 3

    def __post_init__(self) -> None:
        if twice := [name for name in self.to if self.to.count(name) > 1]:
            raise UserError(f"log.to names {twice[0]} {len(twice)} times; once is enough")
