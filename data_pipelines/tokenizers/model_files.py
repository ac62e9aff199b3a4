"""The tokenizer files in the folder of a language model, and the special tokens that they list."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ivjax.errors import UserError

SENTENCEPIECE, JSON = "tokenizer.model", "tokenizer.json"
_CONFIG, _ADDED, _MAP = "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"
TOKENIZER_FILES = (SENTENCEPIECE, JSON, _CONFIG, _ADDED, _MAP)  # all that is read


@dataclass(frozen=True)
class AddedToken:
    """A token beside the vocabulary, or a special one of it, that is recognised inside a text.

    Attributes:
        text: how it is written.
        id: its id.
        special: whether it is left out of decoded text.
        eats_left, eats_right: whether the blanks on that side of it belong to it.
        word: whether it is one only between blanks or marks.
    """

    text: str
    id: int
    special: bool = True
    eats_left: bool = False
    eats_right: bool = False
    word: bool = False


@dataclass(frozen=True)
class SpecialTokens:
    """What the files beside a vocabulary say.

    Attributes:
        added: tokens by their text.
        texts: texts of all special tokens, those that are pieces of the vocabulary included.
        bos, eos, pad: texts of the start, end and padding token; None: not said.
        opens: whether a text begins with the start token; None: not said.
        per_part: whether every part between special tokens gets the vocabulary's dummy prefix, and not only
            the start of a text.
    """

    added: Mapping[str, AddedToken]
    texts: frozenset[str]
    bos: str | None
    eos: str | None
    pad: str | None
    opens: bool | None
    per_part: bool


def vocabulary_in(path: str, published: str) -> Path:
    """Returns the vocabulary file at `path`, a model's folder or the file itself; raises if there is none.

    published: where these files usually come from.
    """
    files = f"{SENTENCEPIECE} or {JSON}, with {_CONFIG} and {_ADDED} where it has them"
    if not path:
        raise UserError(
            f"the language model's tokenizer has no file: give a folder with {files}, from {published}, as "
            "tokenizer= of ivjax.load or path of the tokenizer"
        )
    found = Path(path).expanduser()
    if found.is_file():
        return found
    for name in (SENTENCEPIECE, JSON):
        if (found / name).is_file():
            return found / name
    if found.is_dir():
        raise UserError(f"{found} has no tokenizer: copy {files}, into it from {published}")
    raise UserError(f"the tokenizer {found} is missing: give {files}, from {published}")


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder has a vocabulary file of a language model."""
    return any((folder / name).is_file() for name in (SENTENCEPIECE, JSON))


def special_tokens_beside(file: Path) -> SpecialTokens:
    """Returns what the files beside a vocabulary file say of special tokens; nothing where there are none."""
    config, told = _read(file.parent / _CONFIG), _read(file.parent / _MAP)
    named = {
        kind: _text(config.get(f"{kind}_token")) or _text(told.get(f"{kind}_token"))
        for kind in ("bos", "eos", "pad", "unk")
    }
    further = [
        *(config.get("additional_special_tokens") or ()),
        *(told.get("additional_special_tokens") or ()),
    ]
    specials = {*filter(None, named.values()), *filter(None, map(_text, further))}
    added = {text: AddedToken(text, number, False) for text, number in _read(file.parent / _ADDED).items()}
    for number, said in (config.get("added_tokens_decoder") or {}).items():
        flags = {name: bool(said.get(key)) for name, key in _FLAGS.items()}
        added[said["content"]] = AddedToken(said["content"], int(number), **flags)
    added = {text: replace(t, special=t.special or text in specials) for text, t in added.items()}
    # Absent in old files, whose tokenizers all did so.
    per_part = config.get("legacy") is not False
    bos, eos, pad = (named[kind] for kind in ("bos", "eos", "pad"))
    return SpecialTokens(added, frozenset(specials), bos, eos, pad, config.get("add_bos_token"), per_part)


_FLAGS = {"special": "special", "eats_left": "lstrip", "eats_right": "rstrip", "word": "single_word"}


def _text(said: Any) -> str | None:
    """The text of a token, which files write as it is or with its flags."""
    return said.get("content") if isinstance(said, dict) else said


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is no JSON ({error}); fetch it again") from None
    if not isinstance(said, dict):
        raise UserError(f"{file} lists no special tokens; fetch it again")
    return said
