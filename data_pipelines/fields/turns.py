"""The field of conversations: words, what of them is learned, and the clips that they are about."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ivjax.data_pipelines.dialogue.items import DialogueTokens
from ivjax.data_pipelines.dialogue.packing import TalkSize
from ivjax.data_pipelines.dialogue.seeing import ClipForm, MediaView, Seeing
from ivjax.data_pipelines.dialogue.style import SeenMedia, Style, spoken
from ivjax.data_pipelines.fields.conversation_field import Conversation, OpenMedia
from ivjax.data_pipelines.fields.conversation_row import PADDING, write_row
from ivjax.data_pipelines.fields.field import ArraySpec, RowDraw
from ivjax.data_pipelines.store.dialogues import Dialogue
from ivjax.data_pipelines.store.records import ClipError, Turn
from ivjax.data_pipelines.tokenizers.tokenizer import LanguageTokenizer, Tokenizer
from ivjax.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Turns:
    """Conversations about videos and images, packed into rows of a fixed length (docs/stage3.md).

    Attributes:
        style: how a conversation is written, and what of it is learned.
        tokenizer: words to ids.
        seeing: what is seen of the media, and how many visual tokens that is.
        shuffle: brings pairs of question and answer into a random order, as VideoChat2 does.
        question: the tokenizer of a bridge that reads what is asked; None: the bridge reads nothing.
        question_end: words of the bridge stand at the end of their array, as with Mistral.
    """

    style: Style
    tokenizer: LanguageTokenizer
    seeing: Seeing
    shuffle: bool = False
    question: Tokenizer | None = None
    question_end: bool = False

    def arrays(self, name: str) -> tuple[str, ...]:
        """Returns the names of the arrays of a row."""
        return tuple(PADDING)

    def check(self, path: str, wanted: Mapping[str, ArraySpec]) -> None:
        """Raises UserError if the stage wants other numbers of visual tokens, or words for its bridge."""
        self.tokenizer.pieces("a")  # a missing vocabulary is better met now than in a worker
        seeing = self.seeing
        clips, images = (_count(wanted, name) for name in ("video", "images"))
        frames = wanted["video"].shape[1] if clips else 1
        if self.style.writes_frames and seeing.clip_tokens % frames:
            raise UserError(
                f"{path}.seeing.clip_tokens={seeing.clip_tokens} do not divide among the {frames} frames of "
                "a clip, each of which has a line in this style; take another style"
            )
        if seeing.image_tokens and not images:
            raise UserError(
                f"{path}.seeing.image_tokens={seeing.image_tokens}, and the stage takes no still images; set "
                "it to 0, which makes clips of them"
            )
        if "visual_segments" in wanted:
            slots = wanted["visual_segments"].shape[0]
            if slots != clips * seeing.clip_tokens + images * seeing.image_tokens:
                raise UserError(
                    f"{path}.seeing.clip_tokens={seeing.clip_tokens} and image_tokens={seeing.image_tokens}, "
                    f"and the stage's {clips} clips and {images} images become {slots} visual tokens; give "
                    "the numbers of the stage's model"
                )
        if "question" in wanted:
            self._check_question(path, wanted["question"].shape[-1])

    def _check_question(self, path: str, length: int) -> None:
        if self.question is None:
            raise UserError(f"the stage's bridge reads what is asked; set {path}.question to its tokenizer")
        if self.question.length != length:
            raise UserError(
                f"{path}.question.length={self.question.length} and the stage wants {length} tokens; make "
                "them equal"
            )

    def measure(self, dialogue: Dialogue, form: ClipForm) -> TalkSize:
        """Returns the most room that a conversation may take; raises ClipError for one that is no use."""
        views = self._views(dialogue, form)
        # Counted and not encoded: a start measures all conversations, of thousands of tokens each.
        tokens = self._written(self.style.count, dialogue.turns, views)
        # Times of frames that are drawn anew may be longer in words by a digit each.
        drawn = self.style.writes_times and self.seeing.for_tests().rule != self.seeing.rule
        slack = sum(len(view.times) for view in views) if drawn else 0
        clips, images = sum(view.clips for view in views), sum(view.images for view in views)
        return TalkSize(tokens + slack, clips, images)

    def learned(self, dialogue: Dialogue, form: ClipForm, length: int) -> tuple[int, int]:
        """Returns how many tokens of a conversation are learned, and how many of its first `length`."""
        learned = self._encode(dialogue.turns, self._views(dialogue, form)).learned
        return int(learned.sum()), int(learned[:length].sum())

    def _views(self, dialogue: Dialogue, form: ClipForm) -> list[MediaView]:
        """What is seen where nothing is drawn."""
        seeing, rng = self.seeing.for_tests(), np.random.default_rng(0)
        return [seeing.view(part, form, rng) for part in dialogue.media]

    def make(self, dialogue: Dialogue, media: OpenMedia, form: ClipForm, draw: RowDraw) -> Conversation:
        """Returns a conversation with its pictures; raises ClipError for one that cannot be used."""
        views = [
            self.seeing.view(part, form, draw.shared(f"frames {number}"))
            for number, part in enumerate(dialogue.media)
        ]
        turns = _shuffled(dialogue.turns, draw("turns")) if self.shuffle else dialogue.turns
        pictures = [
            self.seeing.pictures(view, media.video(number), form, draw(f"pixels {number}"))
            for number, view in enumerate(views)
        ]
        clips = [found for found, view in zip(pictures, views, strict=True) if not view.images]
        images = [found for found, view in zip(pictures, views, strict=True) if view.images]
        one = (form.height, form.width, 3)
        return Conversation(
            self._encode(turns, views),
            np.concatenate([np.zeros((0, form.frames, *one), np.uint8), *clips]),
            np.concatenate([np.zeros((0, *one), np.uint8), *images]),
            self.question_words(turns),
        )

    def _encode(self, turns: Sequence[Turn], views: Sequence[MediaView]) -> DialogueTokens:
        return self._written(self.style.encode, turns, views)

    def _written(
        self,
        write: Callable[[Sequence[Turn], Sequence[SeenMedia], LanguageTokenizer], T],
        turns: Sequence[Turn],
        views: Sequence[MediaView],
    ) -> T:
        if not any(turn.role == "assistant" and turn.text for turn in turns):
            raise ClipError("no answer", "the conversation has no answer")
        try:
            return write(turns, self.seeing.tokens(views), self.tokenizer)
        except ValueError as error:
            raise ClipError("wrong marks", str(error)) from None

    def question_words(self, turns: Sequence[Turn]) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the ids (Q,) that the bridge reads, and which are words; None if it reads nothing."""
        if self.question is None:
            return None
        ids = self.question.encode(self.style.question(turns))
        there = ids != self.question.encode("")[-1]  # the padding
        if self.question_end:
            # Words count their places from the array's first slot on, whatever stands there.
            ids, there = np.roll(ids, (~there).sum()), np.roll(there, (~there).sum())
        return ids, there

    def place(self, row: Mapping[str, np.ndarray], conversations: Sequence[Conversation]) -> None:
        """Writes conversations one after the other into the arrays of a row, and padding behind them."""
        write_row(row, conversations, self.seeing)


def _count(wanted: Mapping[str, ArraySpec], name: str) -> int:
    return wanted[name].shape[0] if name in wanted else 0


def _shuffled(turns: Sequence[Turn], rng: np.random.Generator) -> list[Turn]:
    """Returns the turns with their pairs of question and answer in another order."""
    talk = spoken(turns)
    system = [turn for turn in turns if turn.role == "system"]
    pairs = [talk[start : start + 2] for start in range(0, len(talk), 2)]
    if any([turn.role for turn in pair] != ["user", "assistant"] for pair in pairs):
        return list(turns)  # a conversation of another form keeps its order
    return [*system, *(turn for place in rng.permutation(len(pairs)) for turn in pairs[place])]
