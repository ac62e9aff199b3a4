"""A tokenizer.json of a language model, with the special tokens that stand beside its pieces."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.tokenizers.clip_bpe import byte_letters
from ivjax.data_pipelines.tokenizers.model_files import AddedToken, SpecialTokens
from ivjax.data_pipelines.tokenizers.tokenizer import without_surrogates
from ivjax.data_pipelines.tokenizers.tokenizer_json import read_tokenizer_json
from ivjax.errors import UserError

_BLANK = "▁"
_MARK = "\ue000before\ue001"  # of characters that mean nothing, so that no text holds it


class JsonVocabulary:
    """What a tokenizer.json makes of texts, read by the package tokenizers, which also splits special tokens
    off."""

    own_eos: int | None = None
    own_pad: int | None = None

    def __init__(self, file: Path, told: SpecialTokens, added: Mapping[str, int]):
        """Opens a file; `told` by the files beside it, `added` by the family of the model."""
        self._file = file
        tokens = {text: AddedToken(text, number) for text, number in added.items()} | dict(told.added)
        self._missing = tuple(sorted(tokens.values(), key=lambda token: token.id))
        self._tokenizer = self._open()
        # By the largest id and not by their number, which is smaller where a file leaves ids out.
        self.size: int = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self._added = self._tokenizer.get_added_tokens_decoder()
        self._mark(self._tokenizer)
        # What the file's own template puts before a text; it may put an end token behind it too.
        bare, whole = (
            self._tokenizer.encode("a", add_special_tokens=with_own).ids for with_own in (False, True)
        )
        self.opening = () if whole[: len(bare)] == bare else tuple(whole[:1])
        self.own_bos = self.opening[0] if self.opening else None

    def pieces(self, text: str, plain: bool, inside: bool) -> list[int]:
        """Returns the ids of a text; see LanguageTokenizer."""
        tokenizer = self._plain if plain else self._tokenizer
        text = without_surrogates(text)
        found: list[int] = tokenizer.encode(_MARK + text if inside else text, add_special_tokens=False).ids
        return found[1:] if inside else found

    def takes_blanks(self, number: int) -> tuple[bool, bool]:
        """Whether a token takes the blanks before and behind it; see LanguageTokenizer."""
        token = self._added.get(number)
        return (token.lstrip, token.rstrip) if token else (False, False)

    def find(self, token: str) -> int | None:
        """Returns the id of a special token, or of a piece, by its text."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def bytes_of(self, number: int, specials: bool) -> bytes:
        """Returns the UTF-8 bytes of an id; none for an id that is no token."""
        if number in self._added:
            token = self._added[number]
            return token.content.encode() if specials or not token.special else b""
        piece = self._tokenizer.id_to_token(number) if 0 <= number < self.size else None
        if piece is None:
            return b""
        if self._letters is not None:
            return bytes(self._letters[letter] for letter in piece)
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes.fromhex(piece[3:5])
        written: str = piece.replace(_BLANK, " ")
        return written.encode()

    @functools.cached_property
    def drops_blank(self) -> bool:
        """Whether decoding leaves out a blank at the start of a text."""
        return any(
            step["type"] == "Strip" or (step["type"] == "Metaspace" and step.get("prepend_scheme") != "never")
            for step in self._steps
        )

    @functools.cached_property
    def _letters(self) -> Mapping[str, int] | None:
        """The byte of each letter, where pieces are written in bytes; None where they are text."""
        kinds = {step["type"] for step in self._steps}
        if "ByteLevel" in kinds:
            return {letter: byte for byte, letter in byte_letters().items()}
        if kinds & {"ByteFallback", "Metaspace"}:
            return None
        raise UserError(f"{self._file} decodes by {', '.join(kinds) or 'nothing'}, which is not read here")

    @functools.cached_property
    def _steps(self) -> list[dict[str, Any]]:
        decoder = json.loads(self._file.read_text(encoding="utf-8")).get("decoder") or {}
        found: list[dict[str, Any]] = decoder.get("decoders") or ([decoder] if decoder else [])
        return found

    @functools.cached_property
    def _plain(self) -> Any:
        # A second one, because the setting belongs to the tokenizer and not to a call.
        found = self._open()
        found.encode_special_tokens = True
        self._mark(found)
        return found

    def _mark(self, tokenizer: Any) -> None:
        """Adds a token that stands for a special one before a text; its id is never returned."""
        from tokenizers import AddedToken as PackageToken

        tokenizer.add_tokens([PackageToken(_MARK, normalized=False)])

    def _open(self) -> Any:
        tokenizer = read_tokenizer_json(self._file)
        # The file may hold the settings of whoever saved it last.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        from tokenizers import AddedToken as PackageToken

        for token in self._missing:
            if tokenizer.token_to_id(token.text) is None:
                flags = {"lstrip": token.eats_left, "rstrip": token.eats_right, "single_word": token.word}
                one = PackageToken(token.text, special=token.special, normalized=False, **flags)
                tokenizer.add_special_tokens([one]) if token.special else tokenizer.add_tokens([one])
        return tokenizer
