"""The session of a run: the compiled step, state, data, checkpoints and logs."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from ivjax.convert.origins import read_weights, weights_of_run
from ivjax.convert.starting import starting_params
from ivjax.experiment.buckets import in_bucket, storage
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import diff, to_json
from ivjax.experiment.storing import store_experiment
from ivjax.ops.cut import Params, cut, joined
from ivjax.progress import Say
from ivjax.train.best import BestCheckpoint
from ivjax.train.checkpoint import Checkpoints, Restored
from ivjax.train.checks import check_best, check_classes, check_evals, check_words
from ivjax.train.distributed import meet
from ivjax.train.feed import Feed, open_feed
from ivjax.train.keeping import continued, keep
from ivjax.train.ledger import TimeLedger
from ivjax.train.mesh import build_mesh, check_batch, check_context
from ivjax.train.metrics import MetricsLog, open_workdir
from ivjax.train.owner import Ownership, owned
from ivjax.train.program import Build, Program, Step
from ivjax.train.saving import details_in
from ivjax.train.step import State, init_state
from ivjax.train.summary import parameter_table, summary
from ivjax.train.trackers.opening import check_trackers

_PACKAGES = ("ivjax", "jax", "flax", "optax", "orbax-checkpoint", "grain")


@dataclass
class Session:
    """One start of a run; `state`, `step` and `position` change with every step.

    Attributes:
        experiment: What is trained, with vocabularies out of the run folder where it holds them.
        config: The same as the user gave it, for messages and files.
        folder: The run folder.
        say: Receives the lines for a person.
        program: The functions of the run, and the shapes that go into them.
        ledger: Where the time goes.
        checkpoints: The checkpoints of the run folder.
        best: The best checkpoint by a metric, if one is kept.
        log: The metrics file.
        feed: The global batches.
        steps: The compiled step for each medium.
        state: The training state after `step` steps.
        frozen: The parameters that are not trained.
        step: How many steps are done.
        position: Where the data continues after them, as JSON.
        owner: The ownership of the run folder, in the first process of a job.
    """

    experiment: Experiment
    config: Experiment
    folder: Path
    say: Say
    program: Program
    ledger: TimeLedger
    checkpoints: Checkpoints
    best: BestCheckpoint
    log: MetricsLog
    feed: Feed
    steps: Mapping[str, Step]
    state: State
    frozen: Params
    step: int
    position: Mapping[str, Any]
    owner: Ownership | None

    def meta(self) -> dict[str, Any]:
        """Returns the description of the run that each checkpoint holds."""
        return {
            "experiment": to_json(self.config),
            "mesh": {axis: int(size) for axis, size in self.program.mesh.shape.items()},
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self.state["params"])),
            "versions": {name: _version(name) for name in _PACKAGES},
        }


@contextlib.contextmanager
def start_session(
    config: Experiment,
    folder: Path,
    say: Say,
    devices: Sequence[jax.Device] | None,
    verbose: bool,
    build: Build,
) -> Iterator[Session]:
    """Prepares a run, from its newest checkpoint if it has one, and closes all that it opened at the end."""
    main = jax.process_index() == 0
    open_workdir(folder)  # first, so that a folder which cannot be written is found in a second
    check_trackers(config)
    experiment = continued(config, folder)
    with contextlib.ExitStack() as stack:
        # The processes of a job count as one, which the first of them stands for.
        owner = stack.enter_context(owned(folder, say)) if main else None
        ledger = TimeLedger(folder, say, jax.process_index())
        _keep_compiled_programs(folder)
        mesh = build_mesh(experiment.mesh, devices)
        check_batch(experiment.batch, experiment.accumulate, mesh)
        stack.enter_context(jax.set_mesh(mesh))
        program = build(experiment, mesh)
        feed = open_feed(experiment, program.objective, mesh, folder)
        stack.callback(feed.close)
        for medium in feed.media:
            check_context(program.objective.media[medium].tokens, mesh)
        check_words(experiment, program.objective)
        names = check_classes(experiment, program.objective)
        check_evals(experiment)
        check_best(experiment, program)
        stack.enter_context(details_in(folder))
        checkpoints = Checkpoints(folder, experiment.checkpoint, say)
        stack.callback(checkpoints.close)
        # Shapes are compared before bytes are read, so a checkpoint of another model is refused at once.
        with ledger.book("restore"):
            restored = checkpoints.restore(program.state, feed.restore)
        step = restored.step if restored else 0
        ledger.restarted(step)
        # Before the weights are read: that can take minutes, and a person may want to stop a wrong run.
        for line in summary(experiment, program, feed.media, folder, step):
            say(line)
        for line in feed.remarks:
            say(line)
        if main:
            parameter_table(program, folder, say if verbose else lambda line: None)
        state, frozen = _parameters(experiment, folder, program, restored)
        if restored:
            for change in diff(restored.meta["experiment"], to_json(config)):
                say(f"  changed: {change}")
        if main:
            # Only now: a config that does not fit the checkpoints must not replace the one that does.
            store_experiment(config, folder)
            keep(config, folder, program.objective, names)
        log = MetricsLog(config, folder, step, say)
        stack.callback(log.close)
        # Last, because it takes long: mistakes that a check can find have been found by now.
        steps = program.compile(feed.media)
        meet()
        yield Session(
            experiment=experiment,
            config=config,
            folder=folder,
            say=say,
            program=program,
            ledger=ledger,
            checkpoints=checkpoints,
            best=BestCheckpoint(config, folder),
            log=log,
            feed=feed,
            steps=steps,
            state=state,
            frozen=frozen,
            step=step,
            position=feed.position,
            owner=owner,
        )


def _parameters(
    experiment: Experiment, folder: Path, program: Program, restored: Restored | None
) -> tuple[State, Params]:
    """The state to go on from, and the frozen parameters."""
    objective, seed = program.objective, experiment.seed
    # A restored run reads its weight files again only for what neither its checkpoints nor its folder hold.
    wanted = program.frozen if restored else joined(program.state["params"], program.frozen)
    if restored:
        weights = weights_of_run(folder, objective, experiment, wanted)
    else:
        weights = read_weights(objective, experiment, wanted)
    places = jax.tree.map(lambda leaf: leaf.sharding, wanted)
    params = starting_params(objective, wanted, weights, seed, places)
    if restored:
        return restored.state, params
    trained, frozen = cut(params, objective.frozen)
    # Compiled with its shardings, so that no device ever holds all moments.
    begin = jax.jit(lambda p: init_state(p, experiment.recipe), out_shardings=program.shardings)
    return begin(trained), frozen


def _keep_compiled_programs(folder: Path) -> None:
    """Stores compiled programs in the run folder, unless the user has a cache elsewhere."""
    place = storage(folder)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(place / "compiled"))
    if in_bucket(place):
        # XLA writes some of its own beside jax's, and knows no buckets.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    # jax leaves out what compiles in less than a second; at each restart these small programs add up.
    shortest = "jax_persistent_cache_min_compile_time_secs"
    jax.config.update(shortest, min(jax.config.values[shortest], 0.5))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
