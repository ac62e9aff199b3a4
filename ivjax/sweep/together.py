"""Runs that differ only in numbers, trained as one on one device: the train loop's step under vmap."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from ivjax.convert.starting import starting_params
from ivjax.data_pipelines.load.media_loader import MediumBatch
from ivjax.drafts import store
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import to_json
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.storing import store_experiment
from ivjax.ops.layout import batch_spec
from ivjax.train import sharding
from ivjax.train.checkpoint import Checkpoints
from ivjax.train.feed import Batches, Feed
from ivjax.train.metrics import MetricsLog, open_workdir
from ivjax.train.program import Numbers, Program, loss_of, numbers_of, program_of, step_of
from ivjax.train.session import Run, Session, Weights, open_loader
from ivjax.train.step import State, init_state

_ROWS = 1  # the axis of a batch along which the runs' own batches lie; axis 0 is the clips, as everywhere


@dataclass(frozen=True)
class Member:
    """One of the runs, and its run folder."""

    experiment: Experiment
    folder: Path


@dataclass(frozen=True)
class Group(Run):
    """Runs as one: every leaf of the state leads with an axis of runs, and so does every metric.

    `experiment` is that of the first, on one device. Checkpoints of all lie in `folder`; metrics, and in the
    end a checkpoint of its own, in the folder of each member.
    """

    members: tuple[Member, ...] = ()

    @property
    def runs(self) -> int:  # type: ignore[override]
        """How many."""
        return len(self.members)

    @property
    def own_batches(self) -> bool:
        """Whether the runs read different clips."""
        return any(member.experiment.seed != self.experiment.seed for member in self.members)

    def program(self, mesh: Mesh) -> Program:
        """The step over all runs at once."""
        one = program_of(self.experiment, mesh)
        state = jax.tree.map(self._stacked, one.state)
        outputs = (jax.tree.map(lambda leaf: leaf.sharding, state), sharding.replicate(mesh))
        many = jax.vmap(step_of(self.experiment), in_axes=(0, None, self._batch_axis, 0))
        step = jax.jit(many, donate_argnums=0, out_shardings=outputs)
        batches = {name: self._batch(batch, mesh) for name, batch in one.batches.items()}
        return dataclasses.replace(one, state=state, batches=batches, step=step)

    def numbers(self, mesh: Mesh) -> Numbers:
        """The values at `traced`, (runs,) each."""
        values = [numbers_of(member.experiment, self.traced) for member in self.members]
        stacked = {path: jnp.stack([jnp.asarray(v[path]) for v in values]) for path in self.traced}
        return jax.device_put(stacked, sharding.replicate(mesh))

    def loss(self) -> Callable[..., Any]:
        """The losses of all runs."""
        return jax.jit(jax.vmap(loss_of(self.experiment), in_axes=(0, None, self._batch_axis, 0)))

    def start(self, program: Program, read: Weights) -> State:
        """Each run begins with the parameters of its own seed."""
        objective, shapes, recipe = program.objective, program.trained, self.experiment.recipe
        places = sharding.shardings_of(shapes, program.mesh, objective.rules)
        draw = functools.cache(lambda seed: starting_params(objective, shapes, read, seed, places))
        params = [draw(member.experiment.seed) for member in self.members]

        def begin(*params: Any) -> State:
            return jax.vmap(lambda p: init_state(p, recipe))(jax.tree.map(lambda *x: jnp.stack(x), *params))

        return jax.jit(begin, out_shardings=program.shardings)(*params)

    def feed(self, program: Program, eval_clips: bool = False) -> Feed:
        """One batch for all; or one for each, which lie side by side in one."""
        if not self.own_batches:
            return super().feed(program, eval_clips)
        objective, mesh = program.objective, program.mesh
        loaders = [open_loader(m.experiment, objective, mesh, m.folder, eval_clips) for m in self.members]
        specs = {name: jax.tree.map(_row, dict(batch)) for name, batch in program.batches.items()}
        return Feed(SideBySide(loaders), mesh, self.experiment.batch, specs)

    def log(self, done: int) -> "GroupLog":
        """The logs of all runs."""
        return GroupLog([member.folder for member in self.members], done)

    def store(self) -> None:
        """Each run's experiment goes into its folder, their names into the group's."""
        for member in self.members:
            store_experiment(member.experiment, member.folder)
        names = [member.folder.name for member in self.members]
        store(self.folder / "runs.json", json.dumps(names, indent=1) + "\n")

    def leave(self, session: Session) -> None:
        """Gives each run a checkpoint of its own, so that its folder is like any other's."""
        part = jax.jit(lambda state, number: jax.tree.map(lambda leaf: leaf[number], state))
        for number, member in enumerate(self.members):
            meta = session.meta() | {"experiment": to_json(member.experiment)}
            checkpoints = Checkpoints(member.folder, self.experiment.checkpoint)
            state, position = part(session.state, number), _own_position(session.position, number)
            checkpoints.save(session.done, state, position, meta)
            checkpoints.close()

    @property
    def _batch_axis(self) -> int | None:
        return _ROWS if self.own_batches else None

    def _stacked(self, leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.runs, *leaf.shape), leaf.dtype, sharding=leaf.sharding)

    def _batch(self, batch: Mapping[str, Any], mesh: Mesh) -> Mapping[str, Any]:
        if not self.own_batches:
            return batch
        rows = NamedSharding(mesh, batch_spec())
        return {
            name: jax.ShapeDtypeStruct((leaf.shape[0], self.runs, *leaf.shape[1:]), leaf.dtype, sharding=rows)
            for name, leaf in batch.items()
        }


def group_of(members: Sequence[Member], folder: Path, traced: Sequence[str]) -> Group:
    """A group of runs; they may differ in the values at `traced` alone. Makes their folders."""
    for member in members:
        open_workdir(member.folder)
    first = dataclasses.replace(members[0].experiment, mesh=MeshShape())
    return Group(first, folder, tuple(traced), tuple(members))


class SideBySide(Iterator[MediumBatch]):
    """The Batches of several runs as one: rows (batch, runs, ...)."""

    def __init__(self, loaders: Sequence[Batches]):
        self._loaders = loaders

    @property
    def media(self) -> tuple[str, ...]:
        """The media that batches come of."""
        return self._loaders[0].media

    def medium(self, step: int) -> str:
        """Which medium serves a step."""
        return self._loaders[0].medium(step)

    def __next__(self) -> MediumBatch:
        batches = [next(loader) for loader in self._loaders]
        medium, number, _ = batches[0]
        rows = {name: np.stack([b.rows[name] for b in batches], axis=_ROWS) for name in batches[0].rows}
        return MediumBatch(medium, number, rows)

    def report(self) -> dict[str, float]:
        """What the first loader has to say."""
        return self._loaders[0].report()

    def state(self) -> Mapping[str, Any]:
        """What restores the positions; JSON."""
        return {"runs": [loader.state() for loader in self._loaders]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a `state`."""
        for loader, own in zip(self._loaders, state["runs"], strict=True):
            loader.restore(own)

    def close(self) -> None:
        """Closes all loaders."""
        for loader in self._loaders:
            loader.close()


class GroupLog:
    """Writes each run's metrics into its own folder."""

    def __init__(self, folders: Sequence[Path], step: int):
        self._logs = [MetricsLog(folder, step) for folder in folders]

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Stores one step's values: arrays (runs,) are cut, the rest is every run's."""
        for number, log in enumerate(self._logs):
            log.write(step, {n: v[number].item() if np.ndim(v) else v for n, v in values.items()})

    def close(self) -> None:
        """Flushes all files."""
        for log in self._logs:
            log.close()


def _row(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)


def _own_position(position: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    return position["runs"][number] if "runs" in position else position
