"""Trains a SentencePiece model on captions and conversations: `ivjax data tokenizer train`."""

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.store.dialogues import MEDIA_MARK
from ivjax.data_pipelines.store.intact import intact_header
from ivjax.data_pipelines.store.manifest import read_manifest
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.store.shards import Shards, open_shards
from ivjax.data_pipelines.store.stored_dialogues import StoredDialogues
from ivjax.data_pipelines.tokenizers.caption_text import clean_caption
from ivjax.drafts import store
from ivjax.errors import UserError

PAD, START, END, UNKNOWN = range(4)
"""Special ids of a trained model: padding is 0 and no piece of a caption ever is."""

# Normalisation would make one blank of several, and of a line end.
_AS_IT_COMES: Mapping[str, Any] = {
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    # The marks of Mistral's style as VideoChat2 has it: one piece each, and no row of letters.
    "user_defined_symbols": ["[INST]", "[/INST]", "<Video>", "</Video>", "<Image>", "</Image>"],
}
_FEWEST_SAMPLED = 101  # SentencePiece draws no smaller sample


def corpus_captions(folder: Path, clean: bool = True) -> Iterator[str]:
    """Yields all captions of a corpus, cleaned as in training or as stored; leaves out broken records."""
    with open_shards(folder) as shards:
        for number in range(len(shards)):
            yield from (clean_caption(c) if clean else c for c in _captions(shards, number))


def corpus_turns(folder: Path) -> Iterator[str]:
    """Yields what is said in the conversations of a corpus; leaves out broken records."""
    dialogues = StoredDialogues(str(folder))
    for number in range(len(dialogues)):
        with contextlib.suppress(ClipError):
            yield from (turn.text.replace(MEDIA_MARK, "") for turn in dialogues[number].turns)
    dialogues.close()


def train_on_corpus(folder: Path, out: Path, size: int) -> None:
    """Writes a model of the captions of a corpus, or of its conversations if it has some."""
    if read_manifest(folder).conversations:
        train_sentencepiece(corpus_turns(folder), out, size, as_it_comes=True)
    else:
        train_sentencepiece(corpus_captions(folder), out, size)


def _captions(shards: Shards, number: int) -> list[str]:
    try:
        header = intact_header(shards[number])
    except ClipError:  # the loader skips these clips too
        return []
    return [*header["captions"], *(text for texts in header.get("texts", {}).values() for text in texts)]


def train_sentencepiece(
    captions: Iterable[str], out: Path, size: int, most: int = 2_000_000, as_it_comes: bool = False
) -> None:
    """Writes a byte-pair model of `size` pieces to `out`, whole or not at all.

    Rare characters fall back to bytes, so nothing is unknown. Of more than `most` captions a random sample
    is used, always the same one: the same captions in the same order give the same bytes. `as_it_comes` keeps
    blanks and line ends of what is encoded later, as language models want, and gives marks of turns a piece.
    """
    import sentencepiece

    # Its progress goes to stderr by the hundred lines.
    sentencepiece.set_min_log_level(2)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(captions),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            byte_fallback=True,
            character_coverage=0.9995,
            input_sentence_size=max(most, _FEWEST_SAMPLED),
            shuffle_input_sentence=True,
            # One: the same captions must give the same bytes.
            num_threads=1,
            # By default SentencePiece gives padding no id at all (-1).
            pad_id=PAD,
            bos_id=START,
            eos_id=END,
            unk_id=UNKNOWN,
            **(_AS_IT_COMES if as_it_comes else {}),
        )
    except (RuntimeError, OSError) as error:
        raise UserError(_describe(error, size)) from None
    store(out, model.getvalue())


def _lines(captions: Iterable[str]) -> Iterator[str]:
    """Yields non-empty captions without line ends; raises if there is none."""
    found = False
    for caption in captions:
        line = " ".join(caption.split())
        if line:
            found = True
            yield line
    if not found:
        raise UserError("there are no captions to train a tokenizer on; choose a corpus with captions")


def _describe(error: Exception, size: int) -> str:
    reason = str(error).rpartition("] ")[2].strip() or str(error)
    return f"no tokenizer of {size} pieces can be trained on these captions: {reason} Choose another size."
