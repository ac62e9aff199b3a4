"""Plans which conversations share a row of which bucket, before any media are read."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ivjax.data_pipelines.dialogue.packing import BucketRows, TalkSize, pack
from ivjax.data_pipelines.fields.conversation_field import ConversationField
from ivjax.data_pipelines.fields.field import ArraySpec
from ivjax.data_pipelines.load.broken_clips import BrokenClip
from ivjax.data_pipelines.load.measuring import PlanRequest, measure
from ivjax.data_pipelines.store.shard_cache import ShardCache
from ivjax.data_pipelines.store.stored_dialogues import StoredDialogues
from ivjax.errors import UserError


@dataclass(frozen=True)
class DialoguePlan:
    """The rows of one corpus.

    Attributes:
        rows: bucket -> the conversations of each of its rows, by number.
        cut: conversations that lose the end of their answers.
        left_out: conversations that are of no use.
        tokens: bucket -> tokens of all its conversations.
    """

    rows: BucketRows
    cut: tuple[BrokenClip, ...]
    left_out: tuple[BrokenClip, ...]
    tokens: Mapping[str, int]

    @property
    def conversations(self) -> int:
        """The number of conversations in all rows."""
        return sum(len(row) for rows in self.rows.values() for row in rows)

    def digest(self) -> str:
        """Returns a hash of what is in which row."""
        return hashlib.sha256(json.dumps(self.rows).encode()).hexdigest()


def bucket_of(spec: Mapping[str, ArraySpec]) -> TalkSize:
    """Returns the size of the rows of a medium."""
    return TalkSize(*(spec[name].shape[0] if name in spec else 0 for name in ("ids", "video", "images")))


def plan_dialogues(
    folder: str, field: ConversationField, request: PlanRequest, shards: ShardCache | None = None
) -> DialoguePlan:
    """Returns the rows of a corpus: the same for the same request, on any host."""
    dialogues = StoredDialogues(folder, shards)
    numbers: list[int] = []
    sizes: list[TalkSize] = []
    cut: list[BrokenClip] = []
    left_out: list[BrokenClip] = []
    for number, found in enumerate(measure(dialogues, field, request)):
        if found.cause:
            told = BrokenClip(folder, *dialogues.place(number), found.cause, found.detail)
            (cut if found.size else left_out).append(told)
        if found.size:
            numbers.append(number)
            sizes.append(TalkSize(*found.size))
    dialogues.close()
    if not sizes:
        raise UserError(
            f"{folder} has {len(left_out)} conversations, and none can be used; the first: {left_out[0]}"
        )
    packed = pack(sizes, request.buckets, np.random.default_rng(request.seed), request.together)
    tokens = {
        name: sum(sizes[number].tokens for row in rows for number in row) for name, rows in packed.items()
    }
    rows = {name: [tuple(numbers[place] for place in row) for row in rows] for name, rows in packed.items()}
    return DialoguePlan(rows, tuple(cut), tuple(left_out), tokens)
