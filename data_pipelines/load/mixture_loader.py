"""Opens a mixture: its corpora, the order of their clips, the workers that read them."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import grain
import numpy as np

from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.child import usable_cores
from ivjax.data_pipelines.fields.field import ArraySpec, generator
from ivjax.data_pipelines.load.broken_clips import BrokenClipLog
from ivjax.data_pipelines.load.decode_pool import ClipFiller
from ivjax.data_pipelines.load.examples import CorpusFields, ExampleMaker
from ivjax.data_pipelines.load.loader import BatchRequest, Loader
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.errors import UserError


def open_mixture(mixture: Mixture, request: BatchRequest, eval_clips: bool) -> Loader:
    """A loader over a mixture, or over its eval corpora."""
    corpora = mixture.eval_corpora if eval_clips else mixture.corpora
    if not corpora:
        which = "eval_corpora" if eval_clips else "corpora"
        raise UserError(f"data.{which} is empty; name at least one folder")
    spec = {name: ArraySpec(tuple(s.shape), np.dtype(s.dtype)) for name, s in request.spec.items()}
    finish = None
    if mixture.mix is not None and "targets" in spec:
        spec = _before_mixing(spec, mixture.mix)
        finish = functools.partial(_mixed, mix=mixture.mix, seed=request.seed)
    fields = [CorpusFields(corpus.path, mixture.fields) for corpus in corpora]
    maker = ExampleMaker(fields, spec, request.seed)
    order = _order(corpora, maker, request.seed)
    opened = zip(maker.folders, maker.corpora, strict=True)
    identity = {folder: clips.digest() for folder, clips in opened}
    filler = ClipFiller(maker, _worker_count(mixture.workers), mixture.seconds)
    request = dataclasses.replace(request, spec=spec)
    broken = BrokenClipLog(mixture.broken, request.broken_clips)
    clips = sum(len(corpus) for corpus in maker.corpora)
    return Loader(order, filler, request, broken, identity, finish, clips)


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
    shuffled, weights = [], []
    for place, corpus in enumerate(corpora):
        numbers = maker.range(place)
        if not numbers:
            raise UserError(f"corpus {corpus.path} holds no clips; leave it out of data.corpora")
        dataset = grain.MapDataset.range(numbers.start, numbers.stop)
        shuffled.append(dataset.seed((seed + place) % 2**32).shuffle().repeat())
        weights.append(float(len(numbers)) if corpus.weight is None else corpus.weight)
    if min(weights) <= 0:
        raise UserError(f"data.corpora has a weight of {min(weights):g}; weights must be above 0")
    return shuffled[0] if len(shuffled) == 1 else grain.MapDataset.mix(shuffled, weights)
