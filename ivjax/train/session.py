"""Everything a run needs before its first step: mesh, state (fresh or restored), compiled step, data."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ivjax.convert.origins import read_weights
from ivjax.convert.starting import starting_params
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.media_loader import MediaLoader, open_media
from ivjax.data_pipelines.load.mixture import tokenizers_of
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import diff, to_json
from ivjax.experiment.storing import store_experiment
from ivjax.ops.cut import joined
from ivjax.stages.objective import Objective, Params
from ivjax.train import sharding
from ivjax.train.checkpoint import Checkpoints, Restored
from ivjax.train.feed import Feed, Spec, host_shard
from ivjax.train.ledger import TimeLedger
from ivjax.train.mesh import build_mesh, check_batch, check_context
from ivjax.train.metrics import Log, MetricsLog, open_workdir
from ivjax.train.program import Numbers, Program, loss_of, numbers_of, program_of
from ivjax.train.step import State, init_state

Say = Callable[[str], None]
Weights = Mapping[str, np.ndarray]
Compiling = contextlib.AbstractContextManager[Any]


@dataclass(frozen=True)
class Run:
    """What a session trains, and where. `traced` are paths of values that its steps take as arguments.

    A subclass trains several runs as one (ivjax/sweep/together.py): `runs` is how many.
    """

    experiment: Experiment
    folder: Path
    traced: tuple[str, ...] = ()
    runs = 1

    def program(self, mesh: Mesh) -> Program:
        """The step, and the shapes that go into it."""
        return program_of(self.experiment, mesh)

    def numbers(self, mesh: Mesh) -> Numbers:
        """The values at `traced`, on the devices."""
        values = numbers_of(self.experiment, self.traced)
        # As arrays they stay weakly typed, so the maths is that of the constants that they replace.
        return {path: jax.device_put(jnp.asarray(v), sharding.replicate(mesh)) for path, v in values.items()}

    def loss(self) -> Callable[..., Any]:
        """loss(trained, frozen, batch, numbers) -> (loss, terms)."""
        return jax.jit(loss_of(self.experiment))

    def start(self, program: Program, read: Weights) -> State:
        """The state before the first step; `read` are parameters from weight files."""
        shapes, recipe = program.state["params"], self.experiment.recipe
        params = starting_params(
            program.objective, shapes, read, self.experiment.seed, program.shardings["params"]
        )
        return jax.jit(lambda p: init_state(p, recipe), out_shardings=program.shardings)(params)

    def feed(self, program: Program, eval_clips: bool = False) -> Feed:
        """The batches, from the beginning."""
        loader = open_loader(self.experiment, program.objective, program.mesh, self.folder, eval_clips)
        return Feed(loader, program.mesh, self.experiment.batch, batch_specs(program.objective))

    def log(self, done: int) -> Log:
        """Where the metrics go, after `done` steps."""
        return MetricsLog(self.folder, done)

    def store(self) -> None:
        """Writes what is trained into the folder."""
        store_experiment(self.experiment, self.folder)

    def leave(self, session: "Session") -> None:
        """Called when the last step is saved; a single run has nothing more to do."""


@dataclass
class Session:
    """One start of a run. `state` is after `done` steps; `position` is the loader's place then.

    `taken` are the steps so far, by medium.
    """

    run: Run
    program: Program
    say: Say
    ledger: TimeLedger
    checkpoints: Checkpoints
    log: Log
    feed: Feed
    steps: Mapping[str, Callable[..., Any]]  # compiled, by medium
    loss: Callable[..., Any]
    state: State
    frozen: Params
    numbers: Numbers  # values of the experiment that the compiled steps take as arguments
    done: int
    taken: Counter[str]
    position: dict[str, Any]
    profiling_until: int | None = None

    @property
    def experiment(self) -> Experiment:
        """What is trained."""
        return self.run.experiment

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        return self.run.folder

    def flops(self) -> float:
        """Analytic FLOPs of a run's steps so far."""
        media, batch = self.program.objective.media, self.experiment.batch
        return float(sum(batch * steps * sum(media[m].flops.values()) for m, steps in self.taken.items()))

    def meta(self) -> dict[str, Any]:
        """What each checkpoint says about the run."""
        packages = ("ivjax", "jax", "flax", "optax", "orbax-checkpoint", "grain")
        return {
            "experiment": to_json(self.experiment),
            "mesh": {axis: int(size) for axis, size in self.program.mesh.shape.items()},
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self.state["params"])) // self.run.runs,
            "versions": {name: _version(name) for name in packages},
        }


@contextlib.contextmanager
def opened(
    run: Run,
    say: Say,
    devices: Sequence[jax.Device] | None,
    compiling: Compiling,
) -> Iterator[Session]:
    """Prepares a session on `devices` (None: all) and closes what it opened, whatever happens inside.

    The steps compile inside `compiling`.
    """
    experiment, folder, main = run.experiment, run.folder, jax.process_index() == 0
    say = say if main else lambda _: None
    open_workdir(folder)
    ledger = TimeLedger(folder if main else None)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(folder.absolute() / "compiled"))
    shortest = "jax_persistent_cache_min_compile_time_secs"
    jax.config.update(shortest, min(jax.config.values[shortest], 0.5))
    mesh = build_mesh(experiment.mesh, devices)
    check_batch(experiment.batch, experiment.accumulate, mesh)
    with jax.set_mesh(mesh), contextlib.ExitStack() as stack:
        yield _prepare(run, mesh, ledger, say, compiling, stack)


def _prepare(
    run: Run,
    mesh: Mesh,
    ledger: TimeLedger,
    say: Say,
    compiling: Compiling,
    stack: contextlib.ExitStack,
) -> Session:
    experiment, folder, program = run.experiment, run.folder, run.program(mesh)
    objective, not_trained = program.objective, program.frozen
    everything = program.state | ({"frozen": not_trained} if not_trained else {})
    for line in sharding.describe(everything, mesh, objective.rules):
        say(line)
    feed = run.feed(program)
    loader = feed.loader
    stack.callback(loader.close)
    for name in loader.media:
        check_context(objective.media[name].tokens, mesh)
    check_words(experiment, objective)
    checkpoints = Checkpoints(folder, experiment.checkpoint)
    stack.callback(checkpoints.close)
    with ledger.book("restore"):
        found = checkpoints.restore(program.state)
    done = found.step if found else 0
    ledger.restarted(done)
    # A restored run reads its weight files again only for what its checkpoints do not hold.
    read = read_weights(objective, experiment, not_trained if found else joined(program.trained, not_trained))
    places = sharding.shardings_of(not_trained, mesh, objective.rules)
    frozen = starting_params(objective, not_trained, read, experiment.seed, places)
    if found:
        loader.restore(found.data)
        state = found.state
        say(_continuing(found, experiment))
    else:
        state = run.start(program, read)
    if jax.process_index() == 0:
        run.store()
    log = run.log(done)
    stack.callback(log.close)
    numbers = run.numbers(mesh)
    lowered = {medium: program.lower(medium, numbers) for medium in loader.media}
    with compiling:
        compiled = {medium: step.compile() for medium, step in lowered.items()}
    return Session(
        run=run,
        program=program,
        say=say,
        ledger=ledger,
        checkpoints=checkpoints,
        log=log,
        feed=feed,
        steps=compiled,
        loss=run.loss(),
        state=state,
        frozen=frozen,
        numbers=numbers,
        done=done,
        taken=Counter(loader.medium(step) for step in range(done)),
        position=dict(loader.state()),
    )


def _continuing(found: Restored, experiment: Experiment) -> str:
    changed = diff(found.meta["experiment"], to_json(experiment))
    return "".join([f"continuing from step {found.step}", *(f"\n  changed: {line}" for line in changed)])


def open_loader(
    experiment: Experiment, objective: Objective, mesh: Mesh, folder: Path, eval_clips: bool = False
) -> MediaLoader:
    """The loaders of this host's rows; each host lists broken clips in a file of its own."""
    host = host_shard(mesh, experiment.batch)
    broken = folder / f"broken_clips.{jax.process_index()}.jsonl"
    requests = {
        medium: BatchRequest(spec, experiment.batch, experiment.seed, host, broken)
        for medium, spec in batch_specs(objective).items()
    }
    return open_media(experiment.data, requests, eval_clips)


def batch_specs(objective: Objective) -> dict[str, Spec]:
    """Shape and dtype of one row of every array, by medium."""
    return {name: medium.batch for name, medium in objective.media.items()}


def check_words(experiment: Experiment, objective: Objective) -> None:
    """Raises if the tokenizer has more words than the text encoder: the rest would share one embedding."""
    if objective.vocabulary is None:
        return
    wanted = {name for medium in objective.media.values() for name in medium.batch}
    for name, tokenizer in tokenizers_of(experiment.data).items():
        if name in wanted and tokenizer.vocabulary_size > objective.vocabulary:
            raise UserError(
                f"the tokenizer of data.fields.{name} has {tokenizer.vocabulary_size} pieces and the stage's "
                f"text encoder {objective.vocabulary} words; make stage.text.vocabulary as large"
            )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
