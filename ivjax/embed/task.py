"""What `ivjax embed` is asked to do."""

import os
from dataclasses import dataclass
from pathlib import Path

from ivjax.embed.captions import embed_captions, read_texts
from ivjax.embed.index import Made
from ivjax.embed.media import MediaList
from ivjax.embed.videos import EmbedOptions, Outcome, Say, embed_videos
from ivjax.embed.windows import Windowing
from ivjax.errors import UserError
from ivjax.evals.encoding import PairEncoder
from ivjax.version import __version__


@dataclass(frozen=True)
class Task:
    """What is embedded (videos, or texts and the lines of a file), by which weights, into which file."""

    videos: tuple[str, ...]
    texts: tuple[str, ...]
    texts_file: Path | None
    out: Path
    weights: str
    preset: str | None = None
    tokenizer: str | None = None
    options: EmbedOptions = EmbedOptions()

    def open(self) -> PairEncoder:
        """The model."""
        from ivjax.evals.opening import open_pairs

        return open_pairs(
            self.weights, self.preset, self.tokenizer, self.options.batch, words=not self.videos
        )

    def made_by(self, encoder: PairEncoder) -> Made:
        """What the index says of the way it is made."""
        windowing = self.options.windowing
        return Made(
            weights=self.weights,
            preset=self.preset,
            tokenizer=self.tokenizer,
            folder=os.getcwd(),
            frames=encoder.frames,
            image=encoder.image,
            version=__version__,
            window=windowing.seconds,
            stride=windowing.stride or windowing.seconds,
        )


def run_task(task: Task, say: Say) -> Outcome:
    """Embeds; the inputs are looked at before the weights."""
    texts = [*task.texts, *(read_texts(task.texts_file) if task.texts_file else [])]
    if bool(task.videos) == bool(texts or task.texts_file):
        raise UserError("name videos, or texts with --text or --texts; one index holds one of the two")
    if not task.videos and (task.options.tokens or task.options.windowing != Windowing()):
        raise UserError("--tokens, --window and --stride are for videos; leave them out with texts")
    media = MediaList(task.videos)
    encoder = task.open()
    made = task.made_by(encoder)
    if task.videos:
        return embed_videos(encoder, media, task.out, made, task.options, say)
    return embed_captions(encoder, texts, task.out, made, say)
