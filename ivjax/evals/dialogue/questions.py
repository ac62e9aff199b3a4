"""The questions of a test set, one after the other: of a corpus of conversations, or of annotation files."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.sources.benchmarks.listed_question import KIND, SEVERAL
from ivjax.data_pipelines.sources.choices import parted
from ivjax.data_pipelines.sources.open_source import open_source_of
from ivjax.data_pipelines.sources.recognise import recognise
from ivjax.data_pipelines.sources.row import NOT_MEDIA, BadRow, SourceRow
from ivjax.data_pipelines.store.clips import Clips, is_corpus, open_clips
from ivjax.data_pipelines.store.dialogues import MEDIA_MARK, Dialogue
from ivjax.data_pipelines.store.records import ClipError, Turn
from ivjax.data_pipelines.store.stored_dialogues import StoredDialogues
from ivjax.errors import UserError
from ivjax.evals.items import EvalData, UnscoredClip
from ivjax.generate.opening import VideoInput


@dataclass(frozen=True)
class MediumOf:
    """A video or an image that a question is about.

    Attributes:
        path: its file, or a folder of frames; "" for a clip of a corpus.
        record: number of the clip in its corpus.
        start: where the part begins, in seconds (None: where the medium does).
        end: where the part ends, in seconds (None: where the medium does).
        frame_rate: how many images of a folder are shown a second.
    """

    path: str = ""
    record: int = -1
    start: float | None = None
    end: float | None = None
    frame_rate: float | None = None


@dataclass(frozen=True)
class EvalQuestion:
    """One question to be answered.

    Attributes:
        id: names it in results; need not be unique.
        media: what it is about.
        text: the question, without its options.
        answer: the right answer, or the words of the right option.
        options: the options, in the order of their letters; empty for an open question.
        system: instruction that the conversation begins with.
        attributes: whatever else is known of it, by name.
        right: the number of the right option; -1 for an open question.
    """

    id: str
    media: tuple[MediumOf, ...]
    text: str
    answer: str
    options: tuple[str, ...] = ()
    system: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    # Its number and not its words alone: two options may be equal.
    right: int = -1

    def values(self, name: str) -> list[str]:
        """Returns the values of an attribute; none if the question does not have it."""
        found = self.attributes.get(name, "")
        return found.split(SEVERAL) if found else []

    def is_of(self, kinds: Collection[str]) -> bool:
        """Whether it is of one of the kinds; without kinds every question is."""
        return not kinds or not set(kinds).isdisjoint(self.values(KIND))


class EvalQuestions:
    """The questions of a test set, in memory; their media are opened when they are asked for.

    Attributes:
        kind: the format of the annotations; "corpus" for a folder of shards.
    """

    def __init__(self, data: EvalData):
        self.kind, self._folder = "corpus", data.path
        self._clips: Clips | None = None
        found = _of_corpus(data) if is_corpus(data.path) else self._of_source(data)
        self._found = list(_first(found, data.limit))
        if not self._found:
            raise UserError(f"{data.path} holds no question; name another test set")

    def _of_source(self, data: EvalData) -> Iterator["EvalQuestion | UnscoredClip"]:
        path = Path(data.path).expanduser()
        self.kind = data.kind
        if data.kind == "auto" and path.exists():
            self.kind = recognise(path, data.options) or data.kind
        for row in open_source_of(data.path, data.kind, data.videos, data.options):
            if not isinstance(row, BadRow):
                yield from _of_row(row, data.path)
            elif row.cause != NOT_MEDIA:
                yield UnscoredClip(row.where, row.cause, row.reason)

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator["EvalQuestion | UnscoredClip"]:
        return iter(self._found)

    def inputs(self, question: EvalQuestion) -> list[VideoInput]:
        """Returns the media of a question; raises ClipError for a stored clip that is damaged."""
        return [self._input(medium) for medium in question.media]

    def _input(self, medium: MediumOf) -> VideoInput:
        if medium.record < 0:
            return VideoInput(medium.path, medium.start, medium.end, frame_rate=medium.frame_rate)
        if self._clips is None:
            self._clips = open_clips(self._folder)
        return VideoInput(self._clips[medium.record].payload, medium.start, medium.end)


def open_questions(data: EvalData) -> EvalQuestions:
    """Returns the questions of a test set, of which there must be some."""
    return EvalQuestions(data)


def check_kinds(kinds: Iterable[str], questions: Iterable["EvalQuestion | UnscoredClip"]) -> None:
    """Raises UserError for a kind that no question is of."""
    listed = (question for question in questions if isinstance(question, EvalQuestion))
    there = {value for question in listed for value in question.values(KIND)}
    for kind in kinds:
        if kind not in there:
            known = f"they are {', '.join(sorted(there))}" if there else "the questions have no kinds"
            raise UserError(f"no question is of the kind {kind!r}; {known}")


def accuracies_by(
    name: str, questions: Sequence[EvalQuestion], accuracy: Callable[[list[int]], Mapping[str, float]]
) -> list[Mapping[str, Any]]:
    """Returns the accuracy of each value of an attribute; a question with several values counts in each.

    `accuracy` takes the places of some of the questions.
    """
    members: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        for value in question.values(name):
            members.setdefault(value, []).append(place)
    return [
        {"by": name, "name": value, "questions": len(some), **accuracy(some)}
        for value, some in sorted(members.items())
    ]


def check_questions(path: str) -> None:
    """Raises UserError if a test set is not there, or holds no questions."""
    open_questions(EvalData(path, limit=1))


def questions_in(
    id: str, turns: Sequence[Turn], media: tuple[MediumOf, ...], attributes: Mapping[str, str]
) -> Iterator[EvalQuestion | UnscoredClip]:
    """Yields each question of a conversation with its answer, as if nothing had been said before it.

    A question whose answer names none of its options cannot be scored.
    """
    system = next((turn.text for turn in turns if turn.role == "system"), "")
    talk = [turn for turn in turns if turn.role != "system"]
    pairs = [
        (asked.text, told.text)
        for asked, told in zip(talk, talk[1:], strict=False)
        if (asked.role, told.role) == ("user", "assistant") and told.text
    ]
    for number, (asked, told) in enumerate(pairs, 1):
        text, options = parted(asked.replace(MEDIA_MARK, "").strip())
        right = _option_of(told, options) if options else -1
        name = id if len(pairs) == 1 else f"{id}/{number}"
        if right is None:
            yield UnscoredClip(name, "no answer", f"its answer {told[:60]!r} is none of its choices")
        else:
            answer = options[right] if options else told
            yield EvalQuestion(name, media, text, answer, options, system, attributes, right)


def _option_of(told: str, options: Sequence[str]) -> int | None:
    """Returns the number of the option that an answer such as `(B) red` names; None if it names none."""
    from ivjax.evals.dialogue.letters import strict_choice

    place = strict_choice(told, options)
    # VideoChat2's data write it so.
    return place if place is not None else strict_choice(told.removeprefix("Answer:").strip(), options)


def _of_row(row: SourceRow, path: str) -> Iterator[EvalQuestion | UnscoredClip]:
    if not row.conversation:
        raise UserError(
            f"{path} has no questions; name a list with questions and answers, conversations or QA, or a "
            "public test"
        )
    first = MediumOf(row.path, -1, row.start, row.end, row.frame_rate)
    more = tuple(MediumOf(other) for other in row.more)
    yield from questions_in(row.id, row.conversation, (first, *more), row.attributes)


def _of_corpus(data: EvalData) -> Iterator[EvalQuestion | UnscoredClip]:
    if data.kind != "auto" or data.videos is not None or data.options:
        raise UserError(
            f"{data.path} is a corpus, which holds its videos; leave out the kind, folder and options"
        )
    stored = StoredDialogues(data.path)
    try:
        for number in range(len(stored)):
            try:
                dialogue = stored[number]
            except ClipError as error:
                shard, record = stored.place(number)
                yield UnscoredClip(f"{shard} record {record}", error.cause, error.detail)
                continue
            yield from questions_in(dialogue.id, dialogue.turns, _media_of(dialogue), dialogue.attributes)
    finally:
        stored.close()


def _media_of(dialogue: Dialogue) -> tuple[MediumOf, ...]:
    """Returns the parts of stored clips in seconds; images, and clips that are meant whole, without."""
    return tuple(
        MediumOf(
            record=part.record,
            start=part.first / part.fps if part.fps and part.first else None,
            end=part.stop / part.fps if part.fps else None,
        )
        for part in dialogue.media
    )


def _first(
    found: Iterator[EvalQuestion | UnscoredClip], limit: int | None
) -> Iterator[EvalQuestion | UnscoredClip]:
    for number, each in enumerate(found):
        if number == limit:
            return
        yield each
