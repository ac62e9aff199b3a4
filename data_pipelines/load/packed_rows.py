"""Makes rows of packed conversations. Runs in worker processes: neither jax nor grain is imported here."""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from ivjax.data_pipelines.dialogue.seeing import ClipForm
from ivjax.data_pipelines.fields.conversation_field import Conversation, ConversationField
from ivjax.data_pipelines.fields.field import ArraySpec, RowDraw, generator
from ivjax.data_pipelines.load.batch_rows import PLACED, BatchRow
from ivjax.data_pipelines.load.examples import Example, LeftOut
from ivjax.data_pipelines.store.clips import Clips, open_clips
from ivjax.data_pipelines.store.dialogues import Dialogue
from ivjax.data_pipelines.store.manifest import BucketShard
from ivjax.data_pipelines.store.numbering import Concatenation
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.store.shard_cache import ShardCache
from ivjax.data_pipelines.store.stored_dialogues import StoredDialogues
from ivjax.data_pipelines.video.decode import Video
from ivjax.data_pipelines.video.frame_cache import FrameCache
from ivjax.errors import UserError
from ivjax.experiment.bucket_files import is_bucket


class DialogueCorpus(NamedTuple):
    """A corpus of conversations: its folder, how they are read, and those of each row of one bucket."""

    folder: str
    field: ConversationField
    rows: Sequence[tuple[int, ...]]


class OpenedMedia:
    """The media of a conversation, each of them opened once."""

    def __init__(self, clips: Clips, dialogue: Dialogue):
        self._clips = clips
        self._dialogue = dialogue
        self._opened: dict[int, Video] = {}
        self._stack = ExitStack()

    def video(self, number: int) -> Video:
        """Returns the opened pictures of its medium `number`."""
        record = self._dialogue.media[number].record
        if record not in self._opened:
            self._opened[record] = self._stack.enter_context(Video(self._clips[record].payload))
        return self._opened[record]

    def close(self) -> None:
        """Frees the decoders."""
        self._stack.close()


class PackedRows:
    """A Maker of rows of one bucket, whose numbers run through the rows of all corpora. Can be pickled.

    A conversation that cannot be used is left out of its row. A row of which nothing is left is broken.
    """

    cache: FrameCache | None = None  # not used: rows hold parts of videos, at many sizes

    def __init__(
        self,
        corpora: Sequence[DialogueCorpus],
        spec: Mapping[str, ArraySpec],
        seed: int,
        shards: ShardCache | None = None,
    ):
        self.folders = tuple(corpus.folder for corpus in corpora)
        self.spec = dict(spec)
        self._seed = seed
        self._arrays = {name: array for name, array in self.spec.items() if name not in PLACED}
        self._form = clip_form(self.spec)
        self._fields = [corpus.field for corpus in corpora]
        self._rows = [corpus.rows for corpus in corpora]
        self.corpora = [StoredDialogues(folder, shards) for folder in self.folders]
        self._clips = [open_clips(folder, shards) for folder in self.folders]
        self._parts = Concatenation(map(len, self._rows))

    @property
    def clips(self) -> int:
        """The number of rows."""
        return len(self._parts)

    def range(self, corpus: int) -> range:
        """Returns the numbers of the rows of a corpus."""
        return self._parts.range(corpus)

    def locate(self, number: int) -> tuple[int, int]:
        """Returns the corpus of a row, and the number of its first conversation."""
        corpus, row = self._parts.locate(number)
        return corpus, self._rows[corpus][row][0]

    def make(self, index: int, number: int) -> Example:
        """Returns row `number` at global place `index`; raises ClipError if nothing of it can be used."""
        corpus, row = self._parts.locate(number)
        found: list[Conversation] = []
        left_out: list[LeftOut] = []
        for place, dialogue in enumerate(self._rows[corpus][row]):
            # Of the row's place and the conversation's place in it: other draws for each.
            draw = _Draw(self._seed, index, place)
            try:
                found.append(self._conversation(corpus, dialogue, draw))
            except ClipError as error:
                left_out.append(LeftOut(corpus, dialogue, error.cause, error.detail))
        if not found:
            raise ClipError(left_out[0].cause, left_out[0].detail)
        example = Example({name: np.empty(spec.shape, spec.dtype) for name, spec in self._arrays.items()})
        self._fields[corpus].place(example, found)
        example.left_out = tuple(left_out)
        return example

    def _conversation(self, corpus: int, number: int, draw: RowDraw) -> Conversation:
        try:
            dialogue = self.corpora[corpus][number]
            media = OpenedMedia(self._clips[corpus], dialogue)
            try:
                return self._fields[corpus].make(dialogue, media, self._form, draw)
            finally:
                media.close()
        except (ClipError, UserError):
            raise
        except Exception as error:  # whatever a strange clip provokes must not end the run
            raise ClipError("error", f"{type(error).__name__}: {error}") from error

    def remote(self, number: int) -> Sequence[BucketShard]:
        """Returns the shards in buckets with media of the conversations of a row."""
        corpus, row = self._parts.locate(number)
        if not is_bucket(self.folders[corpus]):
            return ()
        found: dict[BucketShard, None] = {}
        for dialogue in self._rows[corpus][row]:
            # One that is damaged, or about a clip that is not there, is left out of the row when it is made.
            with contextlib.suppress(ClipError, IndexError):
                clips = (medium.record for medium in self.corpora[corpus][dialogue].media)
                found |= {
                    shard: None for shard in map(self._clips[corpus].remote, clips) if shard is not None
                }
        return tuple(found)

    def replacement(self, number: int, index: int, attempt: int) -> int:
        """Returns the row of the same corpus that stands in for a broken one: the same on every host."""
        choices = self.range(self._parts.locate(number)[0])
        draws = generator(self._seed, index, "replacement").integers(len(choices), size=attempt + 1)
        return choices[int(draws[attempt])]

    def remarks(self, number: int, row: BatchRow) -> Sequence[str]:
        """Returns nothing: what is left out of a row counts as broken."""
        return ()

    def close(self) -> None:
        """Closes the files."""
        for corpus in self.corpora:
            corpus.close()
        for clips in self._clips:
            clips.close()


class _Draw(RowDraw):
    """The random numbers of a conversation of a row; `first` is its place in the row."""

    def __call__(self, purpose: str) -> np.random.Generator:
        """Random numbers for one purpose."""
        return generator(self.seed, self.place, f"{self.first} {purpose}")

    def shared(self, purpose: str) -> np.random.Generator:
        """The same: a row stands once in a batch."""
        return self(purpose)


def clip_form(spec: Mapping[str, ArraySpec]) -> ClipForm:
    """Returns the form of clips and images that a stage wants; one without any wants texts alone."""
    if "video" in spec:
        return ClipForm(*spec["video"].shape[1:4])
    if "images" in spec:
        return ClipForm(1, *spec["images"].shape[1:3])
    return ClipForm(1, 1, 1)
