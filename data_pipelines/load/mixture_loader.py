"""Opens a mixture: its corpora, the order of their clips, the workers that read them."""

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import grain
import numpy as np

from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.child import usable_cores
from ivjax.data_pipelines.fields.field import ArraySpec, generator
from ivjax.data_pipelines.load.broken_clips import BrokenClipLog
from ivjax.data_pipelines.load.decode_pool import ClipFiller
from ivjax.data_pipelines.load.examples import ExampleMaker
from ivjax.data_pipelines.load.loader import BatchRequest, Finish, Loader
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.load.shard_groups import ShardGroups
from ivjax.data_pipelines.load.shard_room import closing_on_error, copies_told, reserved_cache, shards_ahead
from ivjax.data_pipelines.store.shard_cache import ShardCache
from ivjax.errors import UserError


def open_mixture(mixture: Mixture, request: BatchRequest, eval_clips: bool) -> Loader:
    """Opens a loader over a mixture, or over its eval corpora."""
    which = "eval_corpora" if eval_clips else "corpora"
    path = request.path
    if not getattr(mixture, which):
        raise UserError(f"{path}.{which} is empty; name at least one folder")
    if request.batch % mixture.repeats:
        raise UserError(
            f"{path}.repeats={mixture.repeats} does not divide batch={request.batch}; all repeats of a clip "
            "stand in one batch"
        )
    cache = reserved_cache(mixture, path, request.seed)
    with closing_on_error(cache):
        return _open(mixture, request, which, cache)


def _open(mixture: Mixture, request: BatchRequest, which: str, cache: ShardCache | None) -> Loader:
    path, group = request.path, mixture.shuffle_shards
    spec = {name: ArraySpec(tuple(s.shape), np.dtype(s.dtype)) for name, s in request.spec.items()}
    spec, finish = _mixing(mixture.mix, spec, request)
    fields = tuple(mixture.corpus_fields(path, which == "eval_corpora"))
    maker = ExampleMaker(fields, spec, request.seed, mixture.repeats, cache, near=group > 0)
    remarks = [*maker.check_records(f"{path}.{which}"), *copies_told(maker.folders, cache)]
    order = _order(mixture, which, maker, request)
    # Clip numbers mean the same clips only as long as the corpora do not change.
    identity = {folder: clips.digest() for folder, clips in zip(maker.folders, maker.corpora, strict=True)}
    if group:
        identity = {folder: f"{digest} in groups of {group}" for folder, digest in identity.items()}
    workers = worker_count(mixture.workers, path)
    rows = mixture.repeats * maker.clips
    ahead = shards_ahead(order, maker, group, rows, cache)
    filler = ClipFiller(maker, workers, mixture.seconds, mixture.cache_gib, path, ahead)
    request = dataclasses.replace(request, spec=spec)
    broken = BrokenClipLog(mixture.broken, request.broken_clips, path)
    return Loader(order, filler, request, broken, identity, finish, rows, remarks)


def worker_count(asked: int | None, path: str) -> int:
    """Returns the number of decode processes."""
    if asked is None:
        return max(usable_cores() - 1, 1)  # one core is left to the train loop
    if asked < 0:
        raise UserError(f"{path}.workers={asked}; it must be at least 0")
    return asked


def _mixing(
    mix: Mix | None, spec: dict[str, ArraySpec], request: BatchRequest
) -> tuple[dict[str, ArraySpec], Finish | None]:
    """Returns what rows hold before they are mixed, and what mixes them: None if no targets are wanted."""
    if mix is None or "targets" not in spec:
        return spec, None
    if spec["targets"].shape != (mix.classes,):
        raise UserError(
            f"{request.path}.mix.classes={mix.classes} and the stage wants {spec['targets'].shape[0]}; "
            "make them equal"
        )
    mix.check(f"{request.path}.mix", request.batch, request.host.count)
    # Workers make labels; targets need the labels of two rows, and are made when the batch is whole.
    kept = {name: array for name, array in spec.items() if name != "targets"}
    finish = functools.partial(_mixed, mix=mix, batch=request.batch, seed=request.seed)
    return {"label": ArraySpec((), np.dtype(np.int32))} | kept, finish


def _mixed(
    rows: Mapping[str, np.ndarray], start: int, places: np.ndarray, mix: Mix, batch: int, seed: int
) -> dict[str, np.ndarray]:
    """Returns rows with mixed clips and soft targets; see Finish."""
    video, targets = mix.apply(
        rows["video"], rows["label"], places, batch, lambda place: generator(seed, start + place, "mix")
    )
    return {**rows, "video": video, "targets": targets}


class _Repeated:
    """An endless order in which each clip number stands `times` times in a row."""

    def __init__(self, order: grain.MapDataset, times: int):
        self._order = order
        self._times = times

    def __len__(self) -> int:
        # len() must fit into a C ssize_t, and the order has no end.
        return sys.maxsize

    def __getitem__(self, place: int) -> int:
        return self._order[place // self._times]


def _order(mixture: Mixture, which: str, maker: ExampleMaker, request: BatchRequest) -> grain.MapDataset:
    """Returns clip numbers without end: every corpus once an epoch, in a new order each time."""
    path, parts = f"{request.path}.{which}", []
    corpora: tuple[Corpus, ...] = getattr(mixture, which)
    for place, corpus in enumerate(corpora):
        numbers = maker.range(place)
        if not numbers:
            raise UserError(f"corpus {corpus.path} holds no clips; leave it out of {path}")
        weight = float(len(numbers)) if corpus.weight is None else corpus.weight
        # A seed of its own for each corpus: with the same one, corpora of equal size would run in step.
        seed, group = request.seed + place, mixture.shuffle_shards
        numbering = maker.corpora[place].numbering
        groups = ShardGroups(numbering, numbers.start, group, seed) if group else None
        parts.append(OrderedPart(numbers, weight, seed, groups))
    order = endless_order(parts, path)
    # Not a FlatMapMapDataset: grain refuses to batch one, since a flat map may drop elements.
    return order if mixture.repeats == 1 else grain.MapDataset.source(_Repeated(order, mixture.repeats))


class OrderedPart(NamedTuple):
    """Numbers that come once an epoch in a new order each time, and how many of all numbers are of them.

    Attributes:
        numbers: the numbers.
        weight: how often they come, beside those of other parts.
        seed: what their order follows from.
        groups: their order; None: each is as likely at any place of an epoch.
    """

    numbers: range
    weight: float
    seed: int
    groups: ShardGroups | None = None

    def endless(self) -> grain.MapDataset:
        """Returns the numbers in their order, without end."""
        if self.groups is not None:
            return grain.MapDataset.source(self.groups)
        every = grain.MapDataset.range(self.numbers.start, self.numbers.stop)
        # repeat after shuffle, which gives every epoch an order of its own.
        return every.seed(self.seed % 2**32).shuffle().repeat()


def endless_order(parts: Sequence[OrderedPart], path: str) -> grain.MapDataset:
    """Returns numbers without end, those of the parts mixed by weight; the parts are options at `path`."""
    weights = [part.weight for part in parts]
    if min(weights) <= 0:
        raise UserError(f"{path} has a weight of {min(weights):g}; weights must be above 0")
    # Endless before they are mixed, because a mix ends with its shortest part.
    shuffled = [part.endless() for part in parts]
    return shuffled[0] if len(shuffled) == 1 else grain.MapDataset.mix(shuffled, weights)
