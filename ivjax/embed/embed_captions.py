"""Embeds captions into an index."""

from collections.abc import Sequence
from pathlib import Path

from ivjax.data_pipelines.tokenizers.caption_text import clean_caption
from ivjax.embed.embed_videos import EmbeddingOutcome
from ivjax.embed.index import IndexOrigin, IndexWriter
from ivjax.errors import UserError
from ivjax.evals.encoding import PairEncoder
from ivjax.evals.vectors import embed_texts
from ivjax.progress import Progress, Say

_TEXTS = 1024  # embedded at a time


def embed_captions(
    encoder: PairEncoder, texts: Sequence[str], out: Path, origin: IndexOrigin, say: Say
) -> EmbeddingOutcome:
    """Writes the index of captions, which the model reads cleaned, and returns what came of it."""
    cleaned = [clean_caption(text) for text in texts]
    if not texts or "" in cleaned:
        what = f"the text {texts[cleaned.index('')]!r} has no words" if texts else "there are no texts"
        raise UserError(f"{what}; give some with --text or --texts")
    with IndexWriter(out) as writer, Progress(len(texts), "texts", say) as progress:
        for start in range(0, len(texts), _TEXTS):
            part = slice(start, start + _TEXTS)
            writer.add({"embeddings": embed_texts(encoder, cleaned[part])}, text=texts[part])
            progress.advance(len(texts[part]))
        writer.finish(origin)
    return EmbeddingOutcome(writer.count, len(texts), unit="texts")


def read_texts(file: Path) -> list[str]:
    """Returns the lines of a file that are not blank."""
    try:
        # utf-8-sig: editors on Windows write a byte order mark, which would become part of the first caption.
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{file} cannot be read: {reason}; name a UTF-8 file of a text per line") from None
    return [line.strip() for line in lines if line.strip()]
