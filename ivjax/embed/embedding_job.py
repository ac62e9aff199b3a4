"""The work of `ivjax embed`: videos or texts, a model, and the file that is written."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ivjax.embed.embed_captions import embed_captions, read_texts
from ivjax.embed.embed_videos import EmbeddingOutcome, EmbedOptions, embed_videos
from ivjax.embed.index import IndexOrigin
from ivjax.embed.media_list import MediaList
from ivjax.embed.windows import Windowing
from ivjax.errors import UserError
from ivjax.evals.encoding import PairEncoder, TokenEncoder
from ivjax.evals.hearing import hearing_of
from ivjax.progress import Say
from ivjax.version import __version__


@dataclass(frozen=True)
class EmbeddingJob:
    """The inputs, the weights and the output file of a job.

    Attributes:
        videos: videos, folders, globs, corpora; without texts.
        texts: captions; without videos.
        texts_file: a file of more captions, one a line.
        out: the index.
        weights: a run folder or a weight file, or a branch of either (PATH#BRANCH); texts need two towers.
        preset: which model the file holds, where it does not say.
        tokenizer: another vocabulary file than the model names.
        options: how videos are embedded.
    """

    videos: tuple[str, ...]
    texts: tuple[str, ...]
    texts_file: Path | None
    out: Path
    weights: str
    preset: str | None = None
    tokenizer: str | None = None
    options: EmbedOptions = EmbedOptions()

    def open_for_videos(self) -> TokenEncoder:
        """Returns the model, which may be any tower, or a larger model with one inside."""
        # Imports jax, which takes a second; a wrong argument is reported before.
        from ivjax.evals.features import open_embedder

        options = self.options
        return open_embedder(self.weights, self.preset, options.batch, options.feature, options.medium)

    def open_for_texts(self) -> PairEncoder:
        """Returns the model, which must be a pair of towers."""
        from ivjax.evals.pair_model import open_pairs  # imports jax too

        return open_pairs(self.weights, self.preset, self.tokenizer, self.options.batch)

    def origin_of(self, encoder: TokenEncoder, reading: str = "") -> IndexOrigin:
        """Returns what the index says of where it came from."""
        windowing = self.options.windowing
        return IndexOrigin(
            weights=self.weights,
            preset=self.preset,
            tokenizer=self.tokenizer,
            # Paths are stored as typed; with this folder they are found from anywhere.
            folder=os.getcwd(),
            frames=encoder.frames,
            image=encoder.image,
            version=__version__,
            window=windowing.seconds,
            stride=windowing.stride or windowing.seconds,
            feature=encoder.feature,
            reading=reading,
            medium=self.options.medium,
        )


def embed(
    weights: str | Path,
    videos: str | Path | Iterable[str | Path],
    out: str | Path,
    options: EmbedOptions = EmbedOptions(),
    *,
    preset: str | None = None,
    tokenizer: str | Path | None = None,
    say: Say = print,
) -> EmbeddingOutcome:
    """Embeds videos, window by window, into a file that `ivjax search` searches; returns what came of them.

    `ivjax.features` gives vectors of whole videos, and writes nothing.

    Args:
        weights: a run folder or a weight file of a model with a video tower, or PATH#BRANCH.
        videos: videos, folders of them, globs, or corpus folders.
        out: the .npz file.
        options: which windows, and what is kept of each.
        preset: which model the file holds, where it does not say.
        tokenizer: another vocabulary file than the model names, for those who search by words.
        say: takes lines about the progress.
    """
    named = [videos] if isinstance(videos, str | Path) else videos
    vocabulary = None if tokenizer is None else str(tokenizer)
    paths = tuple(map(str, named))
    job = EmbeddingJob(paths, (), None, Path(out), str(weights), preset, vocabulary, options)
    return run_job(job, say)


def run_job(job: EmbeddingJob, say: Say) -> EmbeddingOutcome:
    """Writes the index of a job and returns what came of it; the inputs are checked before the weights."""
    texts = [*job.texts, *(read_texts(job.texts_file) if job.texts_file else [])]
    if bool(job.videos) == bool(texts or job.texts_file):
        raise UserError("name videos, or texts with --text or --texts; one index holds one of the two")
    options = job.options
    of_videos = options.tokens or options.feature or options.medium != "video"
    if not job.videos and (of_videos or options.windowing != Windowing()):
        raise UserError(
            "--tokens, --pooled, --mean, --medium, --window and --stride are for videos; leave them out"
        )
    media = MediaList(job.videos)
    if not job.videos:
        pair = job.open_for_texts()
        return embed_captions(pair, texts, job.out, job.origin_of(pair), say)
    return index_videos(job, job.open_for_videos(), media, say)


def index_videos(job: EmbeddingJob, encoder: TokenEncoder, media: MediaList, say: Say) -> EmbeddingOutcome:
    """Writes the index of a job's videos by an opened model, and returns what came of it."""
    options = job.options
    if encoder.feature != "embedding" and "embeddings" in options.dtypes:
        what = f"{encoder.feature} features of {job.weights}"
        say(f"the rows are {what}; `ivjax search` finds them by video, not by words")
    from ivjax.evals.own_frames import own_frames_of, reading_of  # imports jax too

    own = own_frames_of(job.weights)
    reading = reading_of(own, encoder.frames, clips=1)
    hearing = hearing_of(encoder)
    seen = f"frames: {reading.frames}; pictures: {reading.crop}"
    read = seen if hearing is None else f"of a sound: {hearing.told}"
    if hearing is not None and not hearing.alone:
        read = f"{seen}; {read}"
    say(f"{read} (by {reading.origin})" if own and seen in read else read)
    return embed_videos(encoder, media, job.out, job.origin_of(encoder, read), options, say, reading.views[0])
