"""Opens a mixture: its corpora, the order of their clips, the workers that read them."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import grain
import numpy as np

from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.child import usable_cores
from ivjax.data_pipelines.load.examples import ExampleMaker
from ivjax.data_pipelines.load.faults import FaultLog
from ivjax.data_pipelines.load.loader import Loader, Reading
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.load.reader import ArraySpec, generator
from ivjax.data_pipelines.load.workers import ClipRows
from ivjax.errors import UserError


def open_mixture(mixture: Mixture, reading: Reading, eval_clips: bool) -> Loader:
    """A loader over a mixture, or over its eval corpora."""
    corpora = mixture.eval_corpora if eval_clips else mixture.corpora
    if not corpora:
        which = "eval_corpora" if eval_clips else "corpora"
        raise UserError(f"data.{which} is empty; name at least one folder")
    spec = {name: ArraySpec(tuple(s.shape), np.dtype(s.dtype)) for name, s in reading.spec.items()}
    finish = None
    if mixture.mix is not None and "targets" in spec:
        spec = _before_mixing(spec, mixture.mix)
        finish = functools.partial(_mixed, mix=mixture.mix, seed=reading.seed)
    maker = ExampleMaker([corpus.path for corpus in corpora], mixture.reader, spec, reading.seed)
    order = _order(corpora, maker, reading.seed)
    opened = zip(maker.folders, maker.corpora, strict=True)
    identity = {folder: clips.digest() for folder, clips in opened}
    rows = ClipRows(maker, _worker_count(mixture.workers), mixture.seconds)
    reading = dataclasses.replace(reading, spec=spec)
    clips = sum(len(corpus) for corpus in maker.corpora)
    return Loader(order, rows, reading, FaultLog(mixture.broken, reading.faults), identity, finish, clips)


def _worker_count(asked: int | None) -> int:
    if asked is None:
        return max(usable_cores() - 1, 1)
    if asked < 0:
        raise UserError(f"data.workers={asked}; it must be at least 0")
    return asked


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
