"""SentencePiece, for the LLaMA text encoder of InternVideo2-CLIP, for LLMs, and for models trained here."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ivjax.data_pipelines.tokenizers.tokenizer import fit, vocabulary_file
from ivjax.errors import UserError
from ivjax.experiment.ranges import Count

PUBLIC_NAME = "tokenizer.model of the language model"


@dataclass(frozen=True)
class SentencePiece:
    """Pieces of a SentencePiece model.

    The defaults are those of InternVideo2-CLIP's text encoder, except for its prefix `summarize:`. A text
    that is too long is cut before its end token.

    Attributes:
        path: the model file.
        length: ids of one text.
        prefix: what stands before every text.
        start, end: whether the model's own start and end token are added.
        pad: the id after the end.
        pieces: how many pieces the model must have; None: any number.
    """

    path: str = ""
    length: Count = 80
    prefix: str = ""
    start: bool = True
    end: bool = True
    pad: int = 0
    pieces: Count | None = None

    FILE: ClassVar[str] = "tokenizer.model"  # what it is called beside weights

    @property
    def vocabulary_size(self) -> int:
        """The number of pieces of the model."""
        return _load(self.path, self.pieces).get_piece_size()

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of the prefix and a text, cut or padded: (length,) int32."""
        model = _load(self.path, self.pieces)
        start = [self._special(model.bos_id(), "start")] if self.start else []
        end = [self._special(model.eos_id(), "end")] if self.end else []
        return fit(start, model.encode(self.prefix + text), end, self.length, self.pad)

    def _special(self, number: int, name: str) -> int:
        if number < 0:
            raise UserError(f"{self.path} has no {name} token; set the tokenizer's {name}=false")
        return number


@functools.cache
def _load(path: str, pieces: int | None) -> Any:
    from sentencepiece import SentencePieceProcessor  # configs name the class without the package

    file = vocabulary_file(path, "SentencePiece", PUBLIC_NAME)
    model = SentencePieceProcessor()
    if not file.stat().st_size:
        raise UserError(f"{file} is not a SentencePiece model: it is empty; get or train it again")
    try:
        model.LoadFromSerializedProto(file.read_bytes())
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{file} is not a SentencePiece model ({error}); get or train it again") from None
    if pieces not in (None, model.get_piece_size()):
        raise UserError(
            f"{file} has {model.get_piece_size()} pieces and the tokenizer wants {pieces}; take the model "
            f"that belongs to the text encoder"
        )
    return model
