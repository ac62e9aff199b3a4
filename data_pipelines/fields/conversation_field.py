"""The protocol of fields of conversations, several of which share a row of a batch."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ivjax.data_pipelines.dialogue.items import DialogueTokens
from ivjax.data_pipelines.dialogue.packing import TalkSize
from ivjax.data_pipelines.dialogue.seeing import ClipForm
from ivjax.data_pipelines.fields.field import ArraySpec, RowDraw
from ivjax.data_pipelines.store.dialogues import Dialogue
from ivjax.data_pipelines.video.clip_video import ClipVideo


class OpenMedia(Protocol):
    """The media of a conversation."""

    def video(self, number: int) -> ClipVideo:
        """Returns the opened pictures of its medium `number`."""
        ...


class Conversation(NamedTuple):
    """A conversation, ready to stand in a row.

    Attributes:
        words: its tokens.
        clips: (n, T, H, W, 3) uint8.
        images: (m, H, W, 3) uint8.
        question: what the bridge reads, (Q,) int32, and where there is a word; None: nothing.
    """

    words: DialogueTokens
    clips: np.ndarray
    images: np.ndarray
    question: tuple[np.ndarray, np.ndarray] | None = None


class ConversationField(Protocol):
    """Makes the arrays of a row from stored conversations. A frozen dataclass, so that configs can hold it.

    Fields run in worker processes: a module that defines one imports neither jax nor grain.
    """

    def arrays(self, name: str) -> tuple[str, ...]:
        """Names of the arrays that the field can make when it is called `name` in `data.fields`."""
        ...

    def check(self, path: str, wanted: Mapping[str, ArraySpec]) -> None:
        """Raises UserError if the field cannot make the `wanted` arrays; `path` is where its options are."""
        ...

    def measure(self, dialogue: Dialogue, form: ClipForm) -> TalkSize:
        """Returns the most room that a conversation may take; raises ClipError for one that is no use."""
        ...

    def learned(self, dialogue: Dialogue, form: ClipForm, length: int) -> tuple[int, int]:
        """Returns how many tokens of a conversation are learned, and how many of its first `length`."""
        ...

    def make(self, dialogue: Dialogue, media: OpenMedia, form: ClipForm, draw: RowDraw) -> Conversation:
        """Returns a conversation with its pictures; raises ClipError for one that cannot be used."""
        ...

    def place(self, row: Mapping[str, np.ndarray], conversations: Sequence[Conversation]) -> None:
        """Writes conversations one after the other into the arrays of a row, and padding behind them."""
        ...
