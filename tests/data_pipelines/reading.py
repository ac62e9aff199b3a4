"""Reads global batches through loaders, one for each of several hosts."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ivjax.data_pipelines.augment.recipe import TRAIN_STAGE2
from ivjax.data_pipelines.fields import ArraySpec, Frames, Label
from ivjax.data_pipelines.load.loader import BatchRequest, HostShard, Loader
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sampling import Intervals

Batch = dict[int, dict[str, np.ndarray]]  # rows by their global place

SPEC = {
    "index": ArraySpec((), np.dtype(np.uint32)),
    "sample": ArraySpec((), np.dtype(np.uint32)),
    "replaced": ArraySpec((), np.dtype(np.uint8)),
    "label": ArraySpec((), np.dtype(np.int32)),
    "video": ArraySpec((4, 24, 24, 3), np.dtype(np.uint8)),
}
FIELDS = {"video": Frames(Intervals(4), TRAIN_STAGE2), "label": Label()}


def mixture(*folders, workers=0, fields=FIELDS, **options) -> Mixture:
    """A mixture of corpora or of their folders."""
    corpora = tuple(f if isinstance(f, Corpus) else Corpus(str(f)) for f in folders)
    return Mixture(corpora, fields, workers=workers, **options)


def batches_of(data, count: int, hosts: int = 1, state=None, seed: int = 7, batch: int = 8, spec=SPEC):
    """The next `count` global batches of a mixture after `state`, and the state after them."""
    return batches(lambda host: data.open(BatchRequest(spec, batch, seed, host)), count, hosts, state)


def batches(
    open_loader: Callable[[HostShard], Loader], count: int, hosts: int, state: Mapping[str, Any] | None
) -> tuple[list[Batch], dict[str, Any]]:
    """The next `count` global batches after `state`, and the state after them."""
    loaders = [open_loader(HostShard(host, hosts)) for host in range(hosts)]
    for loader in loaders:
        if state is not None:
            loader.restore(state)
    found = []
    for _ in range(count):
        parts = [next(loader) for loader in loaders]
        rows = [{name: array[r] for name, array in p.items()} for p in parts for r in range(len(p["index"]))]
        found.append({int(row["index"]): row for row in rows})
    states = [dict(loader.state()) for loader in loaders]
    assert all(s == states[0] for s in states)
    for loader in loaders:
        loader.close()
    return found, states[0]


def assert_same(found: list[Batch], reference: list[Batch]) -> None:
    """Every array of every row is equal."""
    for one, other in zip(found, reference, strict=True):
        assert one.keys() == other.keys()
        for index, row in one.items():
            assert row.keys() == other[index].keys()
            for name, value in row.items():
                np.testing.assert_array_equal(value, other[index][name])
