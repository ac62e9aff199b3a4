"""The typed experiment: everything that decides a run."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute, Recipe, Remat
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.ranges import Count, Within, check_ranges
from ivjax.experiment.run_options import (
    AdamW,
    Checkpointing,
    EvalLoss,
    EvalRun,
    Logging,
    Phase,
    Starts,
    Trains,
)
from ivjax.experiment.schedules import FlooredCosine, WarmupCosine


class Stage(Protocol):
    """A frozen dataclass that describes what is trained.

    What it builds is in ivjax/stages/objective.py, the protocols of its sizes in ivjax/models/sizes.py. A
    stage whose model encodes captions also has `caption_field`: the name of the field that gives them, whose
    tokenizer evals, searches and `ivjax.load` encode with.
    """

    # The results are Any, because their types stand on higher floors, which this one must not import.
    def build(self, compute: Compute) -> Any:
        """Checks the stage and returns its Objective."""
        ...

    @property
    def size(self) -> Any:
        """Returns the ModelSize of what is trained; weight files are recognised by it."""
        ...

    def model(self, compute: Compute) -> Any:
        """Returns the model whose parameters are trained."""
        ...

    def encoders(self) -> Any:
        """Returns the sizes of the towers that can stand alone, by branch of the parameter tree."""
        ...


class DataSource(Protocol):
    """A frozen dataclass that describes where clips come from; data_pipelines/load opens it."""

    # All that type checkers know dataclasses by.
    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run.

    Attributes:
        stage: what is trained.
        data: where the clips come from.
        batch: clips of a step, over all devices and accumulation slices.
        steps: optimizer steps.
        schedule: learning rate of each step.
        optimizer: options of AdamW.
        seed: seed of all random numbers.
        accumulate: slices that a batch is worked off in.
        ema: decay of a moving average of the parameters (None: no average).
        mesh: devices per mesh axis.
        dtype: precision of the forward pass.
        remat: what of each block is computed again in the backward pass.
        remat_blocks: how many of the first blocks `remat` holds for (None: all).
        scan_layers: whether the blocks are one scanned loop or unrolled.
        checkpoint: when to save and what to keep.
        log: log lines and the profiler.
        eval_loss: the loss on clips that are not trained on.
        trains: which parameters train, and how fast; the first match decides.
        starts: how wide fresh parameters start, where the originals' draw does not suit a small model.
        phases: the phases of a progressive run; without any, the experiment is one run.
        evals: the eval suites that run during training.
        init_from: weight files or run folders to start from: FILE, or BRANCH=FILE for a branch of the model
            alone, with FILE#BRANCH for a branch of what the file holds and FILE?head=... for some of its
            classes (docs/weights.md).
        init_fresh: patterns of the parameters that none of `init_from` holds.
        follows_batch: whether an override of the batch alone scales the steps, the warm-up and the rates.
    """

    stage: Stage
    data: DataSource
    batch: Count
    steps: Count
    schedule: WarmupCosine | FlooredCosine
    optimizer: AdamW = AdamW()
    seed: int = 0
    accumulate: Count = 1
    ema: Annotated[float, Within(0, 1, above=True, below=True)] | None = None
    mesh: MeshShape = MeshShape()
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    remat: Remat = "none"
    remat_blocks: Count | None = None
    scan_layers: bool = True
    checkpoint: Checkpointing = Checkpointing()
    log: Logging = Logging()
    eval_loss: EvalLoss = EvalLoss()
    trains: tuple[Trains, ...] = ()
    starts: tuple[Starts, ...] = ()
    phases: tuple[Phase, ...] = ()
    evals: tuple[EvalRun, ...] = ()
    init_from: tuple[str, ...] = ()
    init_fresh: tuple[str, ...] = ()
    follows_batch: bool = False

    def __post_init__(self) -> None:
        # Here and not by who reads them: an override makes a new experiment, which is checked as well.
        check_ranges(self)
        # An error rather than ignored, because a user who sets it expects to save memory.
        if self.remat_blocks is not None and self.remat == "none":
            raise UserError(f"remat_blocks={self.remat_blocks} needs remat to say what is computed again")
        names = [phase.name for phase in self.phases]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f"phases: {twice[0]!r} is the name of {len(twice)} phases; give each its own")

    @property
    def compute(self) -> Compute:
        """The options of the computation."""
        return Compute(self.dtype, self.remat, self.scan_layers, self.remat_blocks)

    @property
    def recipe(self) -> Recipe:
        """The options that turn gradients into steps."""
        return Recipe(self.optimizer, self.schedule, self.steps, self.accumulate, self.ema, self.seed)
