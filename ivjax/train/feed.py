"""Host batches -> global arrays on the mesh."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from ivjax.data_pipelines.load.examples import MissingArraysError
from ivjax.data_pipelines.load.loader import BatchRequest, HostShard
from ivjax.data_pipelines.load.media_loader import MediaLoader, open_media
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.ops.layout import batch_spec
from ivjax.stages.objective import Objective

Spec = Mapping[str, jax.ShapeDtypeStruct]  # shape and dtype of the arrays of a global batch, by name
_LABEL = "label"  # the array of numbers of classes


class Fed(NamedTuple):
    """A global batch: its medium, where in the medium's order it starts, the loader's position after it."""

    batch: dict[str, jax.Array]
    medium: str
    first: int
    position: Mapping[str, Any]


class Feed:
    """Places this host's rows of each batch on its devices; other hosts place theirs."""

    def __init__(
        self,
        loader: MediaLoader,
        mesh: Mesh,
        batch: int,
        specs: Mapping[str, Spec],
        classes: Mapping[str, int] = {},
    ):
        """`classes` are those of an Objective."""
        self._loader = loader
        self._classes = classes
        self._sharding = NamedSharding(mesh, batch_spec())
        self._batch = batch
        self._specs = {medium: specs[medium] for medium in loader.media}

    def __next__(self) -> Fed:
        medium, number, rows = next(self._loader)
        _check(rows, self._specs[medium])
        _check_labels(rows, self._classes)
        arrays = {
            name: jax.make_array_from_process_local_data(
                self._sharding, np.asarray(rows[name]), (self._batch, *spec.shape)
            )
            for name, spec in self._specs[medium].items()
        }
        return Fed(arrays, medium, number * self._batch, self.position)

    @property
    def media(self) -> tuple[str, ...]:
        """The media of the batches."""
        return self._loader.media

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences for a person about what is read."""
        return self._loader.remarks

    def medium(self, step: int) -> str:
        """The medium that serves a step, counted from 0."""
        return self._loader.medium(step)

    @property
    def position(self) -> dict[str, Any]:
        """The position that `restore` continues from, as JSON."""
        return dict(self._loader.state())

    def restore(self, position: Mapping[str, Any]) -> None:
        """Continues from a `position`."""
        self._loader.restore(position)

    def report(self) -> dict[str, float]:
        """Returns the loader's figures on this host's clips, for logs."""
        return self._loader.report()

    def close(self) -> None:
        """Ends the workers that read."""
        self._loader.close()


def open_feed(
    experiment: Experiment, objective: Objective, mesh: Mesh, folder: Path, eval_clips: bool = False
) -> Feed:
    """The batches of an experiment from the beginning."""
    loader = open_loader(experiment, objective, mesh, folder, eval_clips)
    return Feed(loader, mesh, experiment.batch, _specs(objective), objective.classes)


def open_loader(
    experiment: Experiment, objective: Objective, mesh: Mesh, folder: Path, eval_clips: bool = False
) -> MediaLoader:
    """The loaders of this host's rows; each host lists broken clips in a file of its own."""
    host = host_shard(mesh, experiment.batch)
    broken = folder / f"broken_clips.{jax.process_index()}.jsonl"
    requests = {
        medium: BatchRequest(spec, experiment.batch, experiment.seed, host, broken)
        for medium, spec in _specs(objective).items()
    }
    try:
        return open_media(experiment.data, requests, eval_clips)
    except MissingArraysError as error:
        raise UserError(f"{error}{_remedy(objective, error.names)}") from None


def _remedy(objective: Objective, missing: Sequence[str]) -> str:
    """The end of a sentence that says what to set, where the stage can do without what no field gives."""
    known = {name: way for medium in objective.media.values() for name, way in medium.remedies.items()}
    if any(name not in known for name in missing):
        return ""
    *first, last = (known[name] for name in missing)
    return f"; to do without, set {', '.join(first)} and {last}" if first else f"; to do without, set {last}"


def _specs(objective: Objective) -> dict[str, Spec]:
    """Shape and dtype of one row of every array, by medium."""
    return {name: medium.batch for name, medium in objective.media.items()}


def _check(rows: Mapping[str, np.ndarray], wanted: Spec) -> None:
    for name, spec in wanted.items():
        found = rows.get(name)
        if found is None or found.shape[1:] != spec.shape or found.dtype != spec.dtype:
            what = "nothing" if found is None else f"{found.dtype} {found.shape[1:]}"
            raise UserError(
                f"the stage wants {name} as {spec.dtype} {spec.shape} per clip, the data source gives {what}"
            )


def _check_labels(rows: Mapping[str, np.ndarray], classes: Mapping[str, int]) -> None:
    """Raises for a label that no class has: its loss would be that of a clip of no class."""
    labels = rows.get(_LABEL, np.zeros(0, np.int32))
    for option, count in classes.items():
        wrong = [int(label) for label in labels if not 0 <= label < count]
        if wrong:
            raise UserError(
                f"a clip has label {wrong[0]}, and {option}={count} numbers them from 0 to {count - 1}; "
                "set it to the number of classes of the corpora"
            )


def host_shard(mesh: Mesh, batch: int) -> HostShard:
    """Returns the share of the rows that this host's devices own, read off the mesh.

    Hosts whose devices differ only along tensor or context own the same rows and feed the same data.
    """
    # Asked of jax and not computed from axis sizes, because the mesh may lay devices out in any order.
    rows_of: Mapping[jax.Device, Any] = NamedSharding(mesh, batch_spec()).devices_indices_map((batch,))
    owned: dict[int, set[tuple[int, int]]] = {}
    # Not from jax.process_index() or device numbers: the latter have gaps between processes.
    for device, (rows,) in rows_of.items():
        owned.setdefault(device.process_index, set()).add(rows.indices(batch)[:2])
    # Sorted, so that all hosts number the shares alike without talking to each other.
    shares = sorted({tuple(sorted(rows)) for rows in owned.values()})
    if sum(stop - start for share in shares for start, stop in share) != batch:
        raise UserError(
            "this mesh gives hosts overlapping but unequal rows of the batch; "
            "make data x fsdp a multiple of the hosts, or tensor x context a multiple of a host's devices"
        )
    return HostShard(shares.index(tuple(sorted(owned[jax.process_index()]))), len(shares))
