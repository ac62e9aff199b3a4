"""Plans which conversations share a row of which bucket, before any media are read."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ivjax.data_pipelines.dialogue.packing import BucketRows, TalkSize, by_size, pack
from ivjax.data_pipelines.dialogue.seeing import ClipForm
from ivjax.data_pipelines.fields.conversation_field import ConversationField
from ivjax.data_pipelines.fields.field import ArraySpec
from ivjax.data_pipelines.load.broken_clips import BrokenClip
from ivjax.data_pipelines.store.dialogues import Dialogue
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.store.stored_dialogues import StoredDialogues
from ivjax.errors import UserError

CUT = "answer cut off"  # cause of conversations that are longer than all buckets


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


class PlanRequest(NamedTuple):
    """What conversations are packed for.

    Attributes:
        form: the form of clips.
        buckets: the sizes of rows by name.
        seed: what decides which conversations of equal length come together.
        together: whether conversations share rows.
    """

    form: ClipForm
    buckets: Mapping[str, TalkSize]
    seed: int
    together: bool = True


def bucket_of(spec: Mapping[str, ArraySpec]) -> TalkSize:
    """Returns the size of the rows of a medium."""
    return TalkSize(*(spec[name].shape[0] if name in spec else 0 for name in ("ids", "video", "images")))


def plan_dialogues(folder: str, field: ConversationField, request: PlanRequest) -> DialoguePlan:
    """Returns the rows of a corpus: the same for the same request, on any host."""
    dialogues = StoredDialogues(folder)
    numbers: list[int] = []
    sizes: list[TalkSize] = []
    cut: list[BrokenClip] = []
    left_out: list[BrokenClip] = []
    for number in range(len(dialogues)):
        try:
            size, lost = _measure(dialogues[number], field, request)
        except ClipError as error:
            left_out.append(BrokenClip(folder, *dialogues.place(number), error.cause, error.detail))
            continue
        if lost:
            cut.append(BrokenClip(folder, *dialogues.place(number), CUT, lost))
        numbers.append(number)
        sizes.append(size)
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


def _measure(dialogue: Dialogue, field: ConversationField, request: PlanRequest) -> tuple[TalkSize, str]:
    """Returns the room that a conversation takes, and what is lost of it; raises ClipError."""
    size = field.measure(dialogue, request.form)
    if any(size.fits(bucket) for bucket in request.buckets.values()):
        return size, ""
    able = [name for name in by_size(request.buckets) if size._replace(tokens=0).fits(request.buckets[name])]
    if not able:
        raise ClipError(
            "too many clips",
            f"conversation {dialogue.id} has {size.clips} clips and {size.images} images, more than a row",
        )
    length = request.buckets[able[-1]].tokens
    learned, kept = field.learned(dialogue, request.form, length)
    told = f"conversation {dialogue.id} has {size.tokens} tokens and a row has {length}"
    if not kept:
        raise ClipError("no answer left", f"{told}, which ends before its first answer")
    lost = (
        f"{told}: {learned - kept} of {learned} tokens of its answers are cut off" if kept < learned else ""
    )
    return size._replace(tokens=length), lost
