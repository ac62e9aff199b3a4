"""Opens conversations: plans their rows, and serves each bucket of rows as a medium."""

import contextlib
import dataclasses
import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ivjax.data_pipelines.fields.conversation_field import ConversationField
from ivjax.data_pipelines.fields.field import ArraySpec
from ivjax.data_pipelines.load.batch_rows import PLACED, BatchRow
from ivjax.data_pipelines.load.broken_clips import BrokenClip, BrokenClipLog
from ivjax.data_pipelines.load.decode_pool import ClipFiller
from ivjax.data_pipelines.load.dialogue_plan import DialoguePlan, PlanRequest, bucket_of, plan_dialogues
from ivjax.data_pipelines.load.examples import MissingArraysError
from ivjax.data_pipelines.load.loader import BatchRequest, Loader
from ivjax.data_pipelines.load.mixture import Corpus, CorpusFields, Dialogues, Served
from ivjax.data_pipelines.load.mixture_loader import OrderedPart, endless_order, worker_count
from ivjax.data_pipelines.load.packed_rows import DialogueCorpus, PackedRows, clip_form
from ivjax.data_pipelines.load.shard_room import closing_on_error, copies_told, reserved_cache, shards_ahead
from ivjax.data_pipelines.load.shards_ahead import ShardsAhead
from ivjax.data_pipelines.store.shard_cache import ShardCache
from ivjax.drafts import store
from ivjax.errors import UserError

# Files of the run that list conversations that are cut or left out.
LISTED, EVAL_LISTED = "dialogues", "eval_dialogues"
_PILE = 1000  # steps in which media by weight come as often as they should
_ROWS = 256  # over which the share of padding is averaged

Specs = Mapping[str, Mapping[str, ArraySpec]]  # what the stage wants of a row, by medium


def open_dialogues(data: Dialogues, requests: Mapping[str, BatchRequest], eval_clips: bool) -> Served:
    """Opens a loader for each medium that has rows."""
    specs = {
        name: {array: ArraySpec(tuple(s.shape), np.dtype(s.dtype)) for array, s in request.spec.items()}
        for name, request in requests.items()
    }
    request = next(iter(requests.values()))
    which = "eval_corpora" if eval_clips else "corpora"
    corpora: Sequence[Corpus] = getattr(data, which)
    if not corpora:
        raise UserError(f"{request.path}.{which} is empty; name at least one folder")
    read = list(data.corpus_fields(request.path, eval_clips))
    fields = [_field(corpus, specs) for corpus in read]
    cache = reserved_cache(data, request.path, request.seed)
    with contextlib.nullcontext() if cache is None else contextlib.closing(cache):
        planned = _plans(data, read, fields, specs, request, cache)
    _list_remarks(planned, request.broken_clips, EVAL_LISTED if eval_clips else LISTED)
    weights = _weights(corpora, planned, list(specs), f"{request.path}.{which}")
    names = [name for name in specs if sum(weights[name])]
    total = sum(sum(weights[name]) for name in names)
    served = Served({}, {})
    try:
        for name in names:
            share = sum(weights[name]) / total
            workers = math.ceil(worker_count(data.workers, request.path) * share)
            rows = [
                DialogueCorpus(corpus.folder, field, plan.rows[name])
                for corpus, field, plan in zip(read, fields, planned, strict=True)
            ]
            opened = _Opening(data, dataclasses.replace(requests[name], spec=specs[name]), rows, planned)
            served.loaders[name] = opened.loader(weights[name], workers, which)
            batches = served.loaders[name].epoch // request.batch
            weighted = any(corpus.weight is not None for corpus in corpora)
            served.steps[name] = max(round(_PILE * share) if weighted else batches, 1)
    except BaseException:
        # The decode processes of those that did open would live on.
        for loader in served.loaders.values():
            loader.close()
        raise
    return served


def _field(corpus: CorpusFields, specs: Specs) -> ConversationField:
    """Returns the only field of a corpus, checked against what the stage wants."""
    fields: Mapping[str, Any] = corpus.fields
    (name, field), *others = fields.items()
    if others or not hasattr(field, "measure"):
        raise UserError(
            f"{corpus.path} has {', '.join(corpus.fields)}; conversations are read by one field, a Turns"
        )
    for spec in specs.values():
        given = field.arrays(name)
        if missing := sorted(set(spec) - PLACED - set(given)):
            raise MissingArraysError(missing, corpus.path, given)
        field.check(corpus.path_of(name), spec)
    found: ConversationField = field
    return found


def _plans(
    data: Dialogues,
    read: Sequence[CorpusFields],
    fields: Sequence[ConversationField],
    specs: Specs,
    request: BatchRequest,
    cache: ShardCache | None,
) -> list[DialoguePlan]:
    # Rows of words alone have no clips, and so no form.
    seeing = [spec for spec in specs.values() if "video" in spec] or list(specs.values())
    forms = {clip_form(spec) for spec in seeing}
    if len(forms) > 1:
        raise UserError(f"the stage's media have clips of several forms, {forms}; give all of them one")
    buckets = {name: bucket_of(spec) for name, spec in specs.items()}
    wanted = PlanRequest(forms.pop(), buckets, request.seed, data.pack)
    return [
        plan_dialogues(corpus.folder, field, wanted, cache)
        for corpus, field in zip(read, fields, strict=True)
    ]


def _weights(
    corpora: Sequence[Corpus], planned: Sequence[DialoguePlan], media: Sequence[str], path: str
) -> dict[str, list[float]]:
    """Returns how often rows of each corpus come, by medium; a corpus divides its weight by its rows."""
    weights: dict[str, list[float]] = {name: [] for name in media}
    for place, (corpus, plan) in enumerate(zip(corpora, planned, strict=True)):
        if corpus.weight is not None and corpus.weight <= 0:
            raise UserError(f"{path}.{place}.weight={corpus.weight:g}; weights must be above 0")
        rows = sum(map(len, plan.rows.values()))
        for name in media:
            share = len(plan.rows[name]) / rows
            weights[name].append(share * (rows if corpus.weight is None else corpus.weight))
    return weights


def _list_remarks(planned: Sequence[DialoguePlan], broken_clips: Path | None, name: str) -> None:
    """Lists conversations that are cut or left out beside the list of broken clips."""
    told = [remark for plan in planned for remark in (*plan.cut, *plan.left_out)]
    if broken_clips is None or not told:
        return
    lines = [json.dumps(dataclasses.asdict(remark)) + "\n" for remark in told]
    number = broken_clips.suffixes[0] if len(broken_clips.suffixes) > 1 else ""
    store(broken_clips.with_name(f"{name}{number}.jsonl"), "".join(lines))


class _Opening(NamedTuple):
    """What the loader of one medium is opened with."""

    data: Dialogues
    request: BatchRequest
    rows: Sequence[DialogueCorpus]
    planned: Sequence[DialoguePlan]

    def loader(self, weights: Sequence[float], workers: int, which: str) -> Loader:
        """Opens the loader; corpora without rows of this medium are left out of its order."""
        # One for each loader, because each closes its own.
        cache = reserved_cache(self.data, self.request.path, self.request.seed)
        with closing_on_error(cache):
            return self._open(weights, workers, which, cache)

    def _open(self, weights: Sequence[float], workers: int, which: str, cache: ShardCache | None) -> Loader:
        data, request = self.data, self.request
        maker = PackedRows(self.rows, request.spec, request.seed, cache)
        parts = [
            OrderedPart(maker.range(place), weight, request.seed + place)
            for place, weight in enumerate(weights)
            if self.rows[place].rows
        ]
        order = endless_order(parts, f"{request.path}.{which}")
        identity = {
            folder: f"{corpus.digest()} {plan.digest()}"
            for folder, corpus, plan in zip(maker.folders, maker.corpora, self.planned, strict=True)
        }
        ahead = shards_ahead(order, maker, 0, maker.clips, cache)
        filler = PackedFiller(maker, workers, data.seconds, self.planned, request.path, ahead)
        per_row = sum(len(row) for corpus in self.rows for row in corpus.rows) / maker.clips
        broken = BrokenClipLog(data.broken, request.broken_clips, request.path, per_row)
        told = copies_told(maker.folders, cache)
        return Loader(order, filler, request, broken, identity, None, maker.clips, told)


class PackedFiller(ClipFiller):
    """Fills rows with conversations, and tells how much of them is padding."""

    def __init__(
        self,
        maker: PackedRows,
        workers: int,
        seconds: float,
        planned: Sequence[DialoguePlan],
        path: str,
        shards: ShardsAhead | None,
    ):
        super().__init__(maker, workers, seconds, path=path, shards=shards)
        self._padding: deque[float] = deque(maxlen=_ROWS)
        self._empty: deque[float] = deque(maxlen=_ROWS)
        self._told = {
            "data/answers_cut": float(sum(len(plan.cut) for plan in planned)),
            "data/left_out": float(sum(len(plan.left_out) for plan in planned)),
        }

    def fill(self, index: int, number: int, row: BatchRow) -> Sequence[BrokenClip]:
        """See ClipFiller."""
        broken = super().fill(index, number, row)
        for name, shares in (("segments", self._padding), ("clip_segments", self._empty)):
            if name in row and row[name].size:
                shares.append(float(np.mean(row[name] < 0)))
        return broken

    def report(self) -> dict[str, float]:
        """Returns the shares of tokens and clips without a conversation, and what was cut or left out."""
        shares = {"data/padding": list(self._padding), "data/empty_clips": list(self._empty)}
        found = {name: round(sum(values) / len(values), 4) for name, values in shares.items() if values}
        return super().report() | found | {name: count for name, count in self._told.items() if count}
