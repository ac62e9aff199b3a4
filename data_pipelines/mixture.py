"""A weighted mixture of corpora as an experiment's `data`."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grain
import numpy as np

from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.examples import ArraySpec, ClipReader, ExampleMaker, generator
from ivjax.data_pipelines.faults import FaultLog
from ivjax.data_pipelines.loader import Loader, Reading
from ivjax.data_pipelines.workers import ClipRows
from ivjax.errors import UserError


@dataclass(frozen=True)
class Corpus:
    """A folder of shards. `weight` is its part of the mixture; by default the number of its clips."""

    path: str
    weight: float | None = None


@dataclass(frozen=True)
class Mixture:
    """Clips of several corpora, each shuffled anew every epoch, interleaved by weight.

    workers: decode processes (None: one for each core but one; 0: this process's threads). A clip that
    takes more than `seconds` is broken. More than a share of `broken` clips ends the run. With `mix`, the
    stage may ask for `targets` (classes,), the soft ones of mixed labels, instead of `label`.
    """

    corpora: tuple[Corpus, ...]
    reader: ClipReader
    held_out: tuple[Corpus, ...] = ()
    workers: int | None = None
    seconds: float = 60.0
    broken: float = 0.01
    mix: Mix | None = None

    def open(self, reading: Reading, held_out: bool = False) -> Loader:
        """A loader over the mixture, or over the held-out corpora."""
        corpora = self.held_out if held_out else self.corpora
        if not corpora:
            which = "held_out" if held_out else "corpora"
            raise UserError(f"data.{which} is empty; name at least one folder")
        spec = {name: ArraySpec(tuple(s.shape), np.dtype(s.dtype)) for name, s in reading.spec.items()}
        finish = None
        if self.mix is not None and "targets" in spec:
            spec = _before_mixing(spec, self.mix)
            finish = functools.partial(_mixed, mix=self.mix, seed=reading.seed)
        maker = ExampleMaker([corpus.path for corpus in corpora], self.reader, spec, reading.seed)
        order = _order(corpora, maker, reading.seed)
        opened = zip(maker.folders, maker.corpora, strict=True)
        identity = {folder: clips.digest() for folder, clips in opened}
        rows = ClipRows(maker, self._worker_count(), self.seconds)
        reading = dataclasses.replace(reading, spec=spec)
        return Loader(order, rows, reading, FaultLog(self.broken, reading.faults), identity, finish)

    def _worker_count(self) -> int:
        if self.workers is None:
            return max((os.cpu_count() or 1) - 1, 1)
        if self.workers < 0:
            raise UserError(f"data.workers={self.workers}; it must be at least 0")
        return self.workers


def _before_mixing(spec: Mapping[str, ArraySpec], mix: Mix) -> dict[str, ArraySpec]:
    """What the rows hold before they are mixed: labels and places instead of targets."""
    if spec["targets"].shape != (mix.classes,):
        raise UserError(
            f"data.mix.classes={mix.classes} and the stage wants {spec['targets'].shape[0]}; make them equal"
        )
    kept = {name: array for name, array in spec.items() if name != "targets"}
    scalar = {"index": ArraySpec((), np.dtype(np.uint32)), "label": ArraySpec((), np.dtype(np.int32))}
    return scalar | kept


def _mixed(rows: dict[str, np.ndarray], mix: Mix, seed: int) -> dict[str, np.ndarray]:
    """Rows with mixed clips and soft targets; the draw follows from the place of the first row."""
    rng = generator(seed, int(rows["index"].min()), "mix")
    video, targets = mix.apply(rows["video"], rows["label"], rng)
    return rows | {"video": video, "targets": targets}


def _order(corpora: Sequence[Corpus], maker: ExampleMaker, seed: int) -> grain.MapDataset:
    """Clip numbers without end: every corpus once an epoch, in a new order each time."""
    parts, weights = [], []
    for place, corpus in enumerate(corpora):
        numbers = maker.range(place)
        if not numbers:
            raise UserError(f"corpus {corpus.path} holds no clips; leave it out of data.corpora")
        dataset = grain.MapDataset.range(numbers.start, numbers.stop)
        parts.append(dataset.seed((seed + place) % 2**32).shuffle().repeat())
        weights.append(float(len(numbers)) if corpus.weight is None else corpus.weight)
    if min(weights) <= 0:
        raise UserError(f"data.corpora has a weight of {min(weights):g}; weights must be above 0")
    return parts[0] if len(parts) == 1 else grain.MapDataset.mix(parts, weights)
