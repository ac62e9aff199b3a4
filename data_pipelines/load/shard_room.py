"""The room that shards of corpora in buckets take on this machine."""

import contextlib
from collections.abc import Iterator, Sequence

import grain

from ivjax.data_pipelines.load.examples import Maker
from ivjax.data_pipelines.load.mixture import CorpusReader, Dialogues, Mixture
from ivjax.data_pipelines.load.shards_ahead import ShardsAhead
from ivjax.data_pipelines.store.bucket_corpus import manifest_in_bucket, open_cache
from ivjax.data_pipelines.store.cache_folder import cached_file
from ivjax.data_pipelines.store.manifest import ShardInfo
from ivjax.data_pipelines.store.shard_cache import ShardCache
from ivjax.experiment.bucket_files import is_bucket


def in_use_at_once(shards: Sequence[ShardInfo], group: int) -> int:
    """Returns the bytes of shards that an order in groups of so many reads and awaits; 0 is no groups."""
    # The present group and the next one, whichever these are.
    largest = sorted((shard.bytes for shard in shards), reverse=True)
    return sum(largest[: 2 * group] if group else largest)


def reserved_cache(data: CorpusReader, path: str, seed: int) -> ShardCache | None:
    """Opens the cache of data that stands at `path`; raises UserError if it is too small for their order.

    None if no corpus is in a bucket. Eval corpora have their room too, whichever are opened: a run should
    not find out at its first evaluation.
    """
    group = data.shuffle_shards if isinstance(data, Mixture) else 0
    needs: dict[str, int] = {}
    for corpus in (*data.corpora, *data.eval_corpora):
        if not is_bucket(corpus.path):
            continue
        manifest = manifest_in_bucket(corpus.path)
        shards = [*manifest.shards, *(manifest.dialogues if isinstance(data, Dialogues) else ())]
        # One more, for a clip that stands in for a broken one.
        more = max((shard.bytes for shard in shards), default=0) if len(shards) > 2 * group > 0 else 0
        # Of one order, all processes of a job hold about the same shards.
        order = f" in groups of {group}, seed {seed}" if group else ""
        needs[f"{manifest.digest}{order}"] = in_use_at_once(shards, group) + more
    if not needs:
        return None
    cache = open_cache(data.shard_cache, f"{path}.shard_cache")
    with closing_on_error(cache):
        cache.reserve(needs, _remedy(data, path))
    return cache


@contextlib.contextmanager
def closing_on_error(cache: ShardCache | None) -> Iterator[None]:
    """Closes a cache if what is opened with it cannot be opened."""
    try:
        yield
    except BaseException:
        if cache is not None:
            cache.close()
        raise


def shards_ahead(
    order: grain.MapDataset, maker: Maker, group: int, rows: int, cache: ShardCache | None
) -> ShardsAhead | None:
    """Returns what has the shards of an order copied, at most so many rows ahead; None without a cache."""
    if cache is None:
        return None
    manifests = [manifest_in_bucket(folder) for folder in maker.folders if is_bucket(folder)]
    shards = sum(len(manifest.shards) for manifest in manifests)
    room = sum(in_use_at_once(manifest.shards, group) for manifest in manifests)
    return ShardsAhead(lambda place: int(order[place]), maker.remote, shards, room, rows, cache)


def copies_told(folders: Sequence[str], cache: ShardCache | None) -> list[str]:
    """Returns a sentence for each corpus in a bucket of which shards are still to be copied."""
    told: list[str] = []
    for folder in folders:
        if cache is None or not is_bucket(folder):
            continue
        shards = manifest_in_bucket(folder).shards
        missing = sum(shard.bytes for shard in shards if not cached_file(cache.folder, shard).is_file())
        if missing:
            whole = sum(shard.bytes for shard in shards)
            told.append(
                f"{folder}: {missing / 2**30:.3g} of {whole / 2**30:.3g} GiB are copied to {cache.folder} as "
                "the order comes to them"
            )
    return told


def _remedy(data: CorpusReader, path: str) -> str:
    if not isinstance(data, Mixture):
        return "mount the bucket and name the mount"
    if data.shuffle_shards:
        return f"lower {path}.shuffle_shards={data.shuffle_shards}, of which two groups are in use"
    return f"set {path}.shuffle_shards, with which two groups of so many shards are in use and not all"
