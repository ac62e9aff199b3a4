"""Everything a run needs before its first step: mesh, state (fresh or restored), compiled step, data."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from ivjax.config import Experiment, diff, to_json
from ivjax.data_pipelines.alternate import Alternating, open_media
from ivjax.data_pipelines.loader import Reading
from ivjax.data_pipelines.mixture import tokenizer_of
from ivjax.errors import UserError
from ivjax.loading import read_weights
from ivjax.stages.objective import Objective, Params
from ivjax.stored import store_experiment
from ivjax.train import sharding
from ivjax.train.checkpoint import Checkpoints, Restored
from ivjax.train.feed import Feed, Spec, host_shard
from ivjax.train.freeze import joined
from ivjax.train.ledger import TimeLedger
from ivjax.train.mesh import build_mesh, check_batch
from ivjax.train.metrics import MetricsLog, open_workdir
from ivjax.train.program import Numbers, program_of
from ivjax.train.start import starting_params
from ivjax.train.step import State, init_state

Say = Callable[[str], None]


@dataclass
class Session:
    """One start of a run. `state` is after `done` steps; `position` is the loader's place then."""

    experiment: Experiment
    objective: Objective
    mesh: Mesh
    folder: Path
    say: Say
    ledger: TimeLedger
    checkpoints: Checkpoints
    log: MetricsLog
    feed: Feed
    steps: Mapping[str, Callable[..., Any]]  # compiled, by medium
    loss: Callable[..., Any]
    state: State
    frozen: Params
    numbers: Numbers  # values of the experiment that the compiled steps take as arguments
    done: int
    position: dict[str, Any]
    profiling_until: int | None = None

    def meta(self) -> dict[str, Any]:
        """What each checkpoint says about the run."""
        packages = ("ivjax", "jax", "flax", "optax", "orbax-checkpoint", "grain")
        return {
            "experiment": to_json(self.experiment),
            "mesh": {axis: int(size) for axis, size in self.mesh.shape.items()},
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self.state["params"])),
            "versions": {name: _version(name) for name in packages},
        }


@contextlib.contextmanager
def opened(
    experiment: Experiment, folder: Path, say: Say, devices: Sequence[jax.Device] | None
) -> Iterator[Session]:
    """Prepares a session on `devices` (None: all) and closes what it opened, whatever happens inside."""
    main = jax.process_index() == 0
    say = say if main else lambda _: None
    open_workdir(folder)
    ledger = TimeLedger(folder if main else None)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(folder.absolute() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    mesh = build_mesh(experiment.mesh, devices)
    check_batch(experiment.batch, experiment.accumulate, mesh)
    with jax.set_mesh(mesh), contextlib.ExitStack() as stack:
        yield _prepare(experiment, folder, mesh, ledger, say, stack)


def _prepare(
    experiment: Experiment,
    folder: Path,
    mesh: Mesh,
    ledger: TimeLedger,
    say: Say,
    stack: contextlib.ExitStack,
) -> Session:
    program = program_of(experiment, mesh)
    objective, recipe, not_trained = program.objective, experiment.recipe, program.frozen
    trained = program.state["params"]
    everything = program.state | ({"frozen": not_trained} if not_trained else {})
    for line in sharding.describe(everything, mesh):
        say(line)
    loader = open_loader(experiment, objective, mesh, folder)
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
    read = read_weights(objective, experiment, not_trained if found else joined(trained, not_trained))
    frozen = starting_params(objective, not_trained, read, experiment.seed, mesh)
    if found:
        loader.restore(found.data)
        state = found.state
        say(_continuing(found, experiment))
    else:
        params = starting_params(objective, trained, read, experiment.seed, mesh)
        state = jax.jit(lambda p: init_state(p, recipe), out_shardings=program.shardings)(params)
    if jax.process_index() == 0:
        store_experiment(experiment, folder)
    log = MetricsLog(folder, done)
    stack.callback(log.close)
    feed = Feed(loader, mesh, experiment.batch, batch_specs(objective))
    compiled = {medium: program.lower(medium).compile() for medium in loader.media}
    return Session(
        experiment=experiment,
        objective=objective,
        mesh=mesh,
        folder=folder,
        say=say,
        ledger=ledger,
        checkpoints=checkpoints,
        log=log,
        feed=feed,
        steps=compiled,
        loss=jax.jit(objective.loss),
        state=state,
        frozen=frozen,
        numbers={},
        done=done,
        position=dict(loader.state()),
    )


def _continuing(found: Restored, experiment: Experiment) -> str:
    changed = diff(found.meta["experiment"], to_json(experiment))
    return "".join([f"continuing from step {found.step}", *(f"\n  changed: {line}" for line in changed)])


def open_loader(
    experiment: Experiment, objective: Objective, mesh: Mesh, folder: Path, held_out: bool = False
) -> Alternating:
    """The loaders of this host's rows; each host lists broken clips in a file of its own."""
    host = host_shard(mesh, experiment.batch)
    faults = folder / f"broken_clips.{jax.process_index()}.jsonl"
    readings = {
        medium: Reading(spec, experiment.batch, experiment.seed, host, faults)
        for medium, spec in batch_specs(objective).items()
    }
    return open_media(experiment.data, readings, held_out)


def batch_specs(objective: Objective) -> dict[str, Spec]:
    """Shape and dtype of one row of every array, by medium."""
    return {name: medium.batch for name, medium in objective.media.items()}


def check_words(experiment: Experiment, objective: Objective) -> None:
    """Raises if the tokenizer has more words than the text encoder: the rest would share one embedding."""
    tokenizer = tokenizer_of(experiment.data)
    if objective.vocabulary is None or tokenizer is None:
        return
    if tokenizer.vocabulary_size > objective.vocabulary:
        raise UserError(
            f"data.reader.tokenizer has {tokenizer.vocabulary_size} pieces and the stage's text encoder "
            f"{objective.vocabulary} words; make stage.text.vocabulary as large"
        )


def check_context(tokens: int, mesh: Mesh) -> None:
    """Raises if the context axis cannot split the tokens evenly."""
    ways = mesh.shape["context"]
    if tokens % ways:
        raise UserError(
            f"mesh.context={ways} cannot split the {tokens} tokens of a clip evenly ({tokens} / {ways} = "
            f"{tokens / ways:.2f}); choose a divisor, or split over fsdp or tensor"
        )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
