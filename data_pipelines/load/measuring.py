"""Measures stored conversations, in processes if there are many."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ivjax.data_pipelines.child import Child, LostError, serve, usable_cores
from ivjax.data_pipelines.dialogue.packing import TalkSize
from ivjax.data_pipelines.dialogue.seeing import ClipForm
from ivjax.data_pipelines.fields.conversation_field import ConversationField
from ivjax.data_pipelines.store.dialogues import Dialogue
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.store.stored_dialogues import StoredDialogues
from ivjax.errors import UserError

CUT = "answer cut off"  # cause of conversations that are longer than all buckets
_ALONE = 5000  # conversations that this process measures faster than others would start
_PART = 1000  # conversations that a process measures at once
_SECONDS = 3600.0  # that may take
_MODULE = "ivjax.data_pipelines.load.measuring"


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


class Measured(NamedTuple):
    """The room that a conversation takes, and what is lost of it. Plain values, which go through a pipe.

    Attributes:
        size: tokens, clips and images; empty for a conversation that is of no use.
        cause: why it is of no use, or CUT; empty for one that is whole.
        detail: says more.
    """

    size: tuple[int, ...]
    cause: str = ""
    detail: str = ""


def measure(dialogues: StoredDialogues, field: ConversationField, request: PlanRequest) -> Iterator[Measured]:
    """Yields the measures of the conversations of a corpus, in order."""
    setup, count = (dialogues, field, request), len(dialogues)
    if count <= _ALONE:
        yield from map(Measured._make, prepare(setup)((0, count)))
        return
    parts = [(start, min(start + _PART, count)) for start in range(0, count, _PART)]
    children = [Child(_MODULE, setup) for _ in range(min(usable_cores(), len(parts)))]
    try:
        with ThreadPoolExecutor(len(children)) as threads:
            # Dealt in turns, so that all processes end at about the same time.
            asked = [
                threads.submit(_ask, child, parts[n :: len(children)]) for n, child in enumerate(children)
            ]
            answers = [iter(answer.result()) for answer in asked]
    except LostError as lost:
        raise UserError(
            f"a process that measured conversations of {dialogues.folder} was lost: {lost}"
        ) from None
    finally:
        for child in children:
            child.close()
    for number in range(len(parts)):
        yield from map(Measured._make, next(answers[number % len(answers)]))


_Plain = tuple[tuple[int, ...], str, str]  # a Measured, whose class is another one in the child


def _ask(child: Child, parts: Sequence[tuple[int, int]]) -> list[list[_Plain]]:
    return [child.ask(part, _SECONDS) for part in parts]


def prepare(
    setup: tuple[StoredDialogues, ConversationField, PlanRequest],
) -> Callable[[tuple[int, int]], list[_Plain]]:
    """Returns the function that measures the conversations from one number up to another."""
    dialogues, field, request = setup

    def answer(part: tuple[int, int]) -> list[_Plain]:
        return [_measured(dialogues, number, field, request) for number in range(*part)]

    return answer


def _measured(
    dialogues: StoredDialogues, number: int, field: ConversationField, request: PlanRequest
) -> _Plain:
    try:
        found = _measure(dialogues[number], field, request)
        return found.size, found.cause, found.detail
    except ClipError as error:
        return (), error.cause, error.detail


def _measure(dialogue: Dialogue, field: ConversationField, request: PlanRequest) -> Measured:
    """Returns the room that a conversation takes, and what is lost of it; raises ClipError."""
    size = field.measure(dialogue, request.form)
    if any(size.fits(bucket) for bucket in request.buckets.values()):
        return Measured(tuple(size))
    able = [bucket for bucket in request.buckets.values() if size._replace(tokens=0).fits(bucket)]
    if not able:
        raise ClipError(
            "too many clips",
            f"conversation {dialogue.id} has {size.clips} clips and {size.images} images, more than a row",
        )
    length = max(bucket.tokens for bucket in able)
    learned, kept = field.learned(dialogue, request.form, length)
    told = f"conversation {dialogue.id} has {size.tokens} tokens and a row has {length}"
    if not kept:
        raise ClipError("no answer left", f"{told}, which ends before its first answer")
    cut = tuple(size._replace(tokens=length))
    if kept == learned:
        return Measured(cut)
    return Measured(cut, CUT, f"{told}: {learned - kept} of {learned} tokens of its answers are cut off")


if __name__ == "__main__":
    serve(int(sys.argv[1]), prepare)
