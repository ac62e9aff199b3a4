"""Fields that are read from what a record says about its clip."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ivjax.data_pipelines.fields.caption_mixer import CaptionMixer
from ivjax.data_pipelines.fields.field import ArraySpec, ReadableClip, RowDraw, SingleArray
from ivjax.data_pipelines.store.records import Clip, ClipError
from ivjax.data_pipelines.tokenizers.caption_text import clean_caption
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.errors import UserError


@dataclass(frozen=True)
class Caption(SingleArray):
    """Token ids of one caption of a clip, or of several fused: (L,) int32, with L the tokenizer's length.

    Attributes:
        tokenizer: words to ids.
        which: a `random` one of the clip's captions, or its `first`.
        clean: lower case without most punctuation, as the originals do.
        mixer: fuses captions of several kinds into one (None: one of the clip's own is taken).
    """

    tokenizer: Tokenizer
    which: Literal["random", "first"] = "random"
    clean: bool = True
    mixer: CaptionMixer | None = None

    def check(self, path: str, wanted: Mapping[str, ArraySpec]) -> None:
        """Raises UserError if there is no vocabulary, or if the stage wants another number of tokens."""
        if self.mixer is not None:
            self.mixer.check(f"{path}.mixer")
        self.tokenizer.encode("a")  # a missing vocabulary is better met now than in a worker
        for spec in wanted.values():
            if spec.shape != (self.tokenizer.length,):
                raise UserError(
                    f"{path}.tokenizer.length={self.tokenizer.length} and the stage wants "
                    f"{spec.shape[0]} tokens; make them equal"
                )

    def check_record(self, record: Clip) -> None:
        """Raises ClipError for a clip without captions, or without a word in them."""
        if self.mixer is not None:
            self.mixer.check_record(record)
        elif not record.captions:
            raise ClipError("no caption", f"clip {record.id} has none")
        elif not self._worded(record):
            raise ClipError("no words", f"the captions of clip {record.id} are marks and blanks alone")

    def array(self, clip: ReadableClip, spec: ArraySpec, draw: RowDraw) -> np.ndarray:
        """Returns the token ids of a caption, (L,) int32; raises ClipError for a clip without captions."""
        self.check_record(clip.record)
        if self.mixer is not None:
            text = self.mixer.mix(clip.record, draw, self.which == "first")
        else:
            captions = self._worded(clip.record)
            # Nothing is drawn for `first`; draws by purpose do not disturb each other.
            text = captions[int(draw("caption").integers(len(captions))) if self.which == "random" else 0]
        return self.tokenizer.encode(clean_caption(text) if self.clean else text)

    def _worded(self, record: Clip) -> list[str]:
        """Returns the captions that are not empty once they are cleaned: those would be padding alone."""
        return [text for text in record.captions if (clean_caption(text) if self.clean else text.strip())]


@dataclass(frozen=True)
class Label(SingleArray):
    """The number of a clip's class: () int32."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a single number."""
        return ()

    def check_record(self, record: Clip) -> None:
        """Raises ClipError for a clip without a label."""
        if record.label is None:
            raise ClipError("no label", f"clip {record.id} has none")

    def array(self, clip: ReadableClip, spec: ArraySpec, draw: RowDraw) -> np.ndarray:
        """Returns the number of the class, (); raises ClipError for a clip without one."""
        self.check_record(clip.record)
        return np.asarray(clip.record.label)


@dataclass(frozen=True)
class Tags(SingleArray):
    """Soft targets of all that a clip's attributes say: (words,) float32, an even share for each of them.

    A classifier with as many classes learns several things of a clip at once: `Classification(mixed=True)`,
    with this field as `targets`.

    Attributes:
        attributes: the attributes that are read, such as colour and shape.
        words: the words that count, in the order of the classes.
    """

    attributes: tuple[str, ...]
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.attributes or len(set(self.words)) < len(self.words) or len(self.words) < 2:
            raise UserError(
                f"tags of {self.attributes} by the words {self.words} cannot be learned; name attributes, "
                "and at least two words, each once"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """One number for each word."""
        return (len(self.words),)

    def check_record(self, record: Clip) -> None:
        """Raises ClipError for a clip of which no word is said."""
        if not self._said(record):
            read = ", ".join(self.attributes)
            raise ClipError("no tag", f"clip {record.id} has none of the words in its attributes {read}")

    def array(self, clip: ReadableClip, spec: ArraySpec, draw: RowDraw) -> np.ndarray:
        """Returns the share of each word, (words,); raises ClipError for a clip of which none is said."""
        self.check_record(clip.record)
        said = self._said(clip.record)
        return np.array([(word in said) / len(said) for word in self.words], np.float32)

    def _said(self, record: Clip) -> set[str]:
        found = {record.attributes.get(name) for name in self.attributes}
        return {word for word in self.words if word in found}
