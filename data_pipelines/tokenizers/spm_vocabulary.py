"""A SentencePiece model of a language model, with the special tokens that stand beside its pieces."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.tokenizers.model_files import AddedToken, SpecialTokens
from ivjax.data_pipelines.tokenizers.tokenizer import without_surrogates
from ivjax.errors import UserError

# Appended to a stored model, this turns its normalizer's add_dummy_prefix off: in a protocol buffer, what
# comes later wins.
_NO_PREFIX = b"\x1a\x02\x18\x00"
_BLANK = "▁"


class SpmVocabulary:
    """Pieces of a SentencePiece model, and special tokens that are recognised inside a text."""

    def __init__(self, file: Path, told: SpecialTokens, added: Mapping[str, int]):
        """Opens a file; `told` by the files beside it, `added` by the family of the model."""
        self._model = model = _opened(file, b"")
        self.drops_blank: bool = model.normalize("a").startswith(_BLANK)
        self._per_part = told.per_part or not self.drops_blank
        self._inside = model if self._per_part else _opened(file, _NO_PREFIX)
        pieces = model.get_piece_size()
        found = {
            model.id_to_piece(number): number
            for number in range(pieces)
            if model.is_control(number) or model.is_unknown(number)
        }
        found |= {text: model.piece_to_id(text) for text in told.texts if self._piece(text) is not None}
        self._tokens = {text: AddedToken(text, number) for text, number in (found | dict(added)).items()}
        self._tokens |= told.added
        self._by_id = {token.id: token for token in self._tokens.values()}
        self.size: int = max(pieces, max(self._by_id, default=-1) + 1)
        self._pattern = _pattern(self._tokens.values())
        own = {
            kind: number for kind in ("bos", "eos", "pad") if (number := getattr(model, f"{kind}_id")()) >= 0
        }
        self.own_bos, self.own_eos, self.own_pad = (own.get(kind) for kind in ("bos", "eos", "pad"))
        # Tokenizers of SentencePiece models write a start token unless their config says no.
        self.opening = () if self.own_bos is None else (self.own_bos,)

    def pieces(self, text: str, plain: bool, inside: bool) -> list[int]:
        """Returns the ids of a text; see LanguageTokenizer."""
        ids: list[int] = []
        text = without_surrogates(text)
        parts = [text] if plain else self._pattern.split(text)
        # Every second part is a special token.
        for number, part in enumerate(parts):
            if number % 2:
                ids.append(self._tokens[part if part in self._tokens else part.strip()].id)
            elif part:
                ids += (self._inside if number or inside else self._model).encode(part)
        return ids

    def takes_blanks(self, number: int) -> tuple[bool, bool]:
        """Whether a token takes the blanks before and behind it; see LanguageTokenizer."""
        token = self._by_id.get(number)
        return (token.eats_left, token.eats_right) if token else (False, False)

    def find(self, token: str) -> int | None:
        """Returns the id of a special token, or of a piece, by its text."""
        return self._tokens[token].id if token in self._tokens else self._piece(token)

    def bytes_of(self, number: int, specials: bool) -> bytes:
        """Returns the UTF-8 bytes of an id; none for an id that is no token."""
        if number in self._by_id:
            token = self._by_id[number]
            return token.text.encode() if specials or not token.special else b""
        model = self._model
        if not 0 <= number < model.get_piece_size():
            return b""
        piece: str = model.id_to_piece(number)
        if model.is_byte(number):
            return bytes.fromhex(piece[3:5])  # <0x41>
        return piece.replace(_BLANK, " ").encode()

    def _piece(self, text: str) -> int | None:
        number: int = self._model.piece_to_id(text)
        return number if self._model.id_to_piece(number) == text else None


def _pattern(tokens: Any) -> re.Pattern[str]:
    """Matches any of the tokens with the blanks that belong to it, the longest first."""
    written = []
    for token in sorted(tokens, key=lambda token: -len(token.text)):
        inner = re.escape(token.text)
        if token.word:
            inner = rf"(?<!\w){inner}(?!\w)"
        left, right = ("\\s*" if eats else "" for eats in (token.eats_left, token.eats_right))
        written.append(f"{left}{inner}{right}")
    return re.compile(f"({'|'.join(written)})" if written else r"(?!)()")


def _opened(file: Path, more: bytes) -> Any:
    from sentencepiece import SentencePieceProcessor  # configs name tokenizers without the package

    model = SentencePieceProcessor()
    stored = file.read_bytes()
    try:
        # An empty file is a model of no pieces to the package.
        if not stored:
            raise ValueError
        model.LoadFromSerializedProto(stored + more)
    except (RuntimeError, ValueError):
        why = "it cannot be read" if stored else "it is empty"
        raise UserError(f"{file} is not a SentencePiece model: {why}; get the file again") from None
    return model
