"""What an experiment's `data` can be, importable without the packages that read it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.load.reader import ClipReader
from ivjax.data_pipelines.tokenizers.base import Tokenizer

if TYPE_CHECKING:
    from ivjax.data_pipelines.load.loader import Loader, Reading


@dataclass(frozen=True)
class Corpus:
    """A folder of shards. `weight` is its part of the mixture; by default the number of its clips."""

    path: str
    weight: float | None = None


@dataclass(frozen=True)
class Mixture:
    """Clips of several corpora, each shuffled anew every epoch, interleaved by weight.

    workers: decode processes (None: one for each core but one; 0: this process's threads). A clip that
    takes more than `seconds` is broken. More than a share of `broken` clips ends the run. With `mix`, the
    stage may ask for `targets` (classes,), the soft ones of mixed labels, instead of `label`.
    """

    corpora: tuple[Corpus, ...]
    reader: ClipReader
    eval_corpora: tuple[Corpus, ...] = ()
    workers: int | None = None
    seconds: float = 60.0
    broken: float = 0.01
    mix: Mix | None = None

    def open(self, reading: "Reading", eval_clips: bool = False) -> "Loader":
        """A loader over the mixture, or over the eval corpora."""
        from ivjax.data_pipelines.load.opening import open_mixture

        return open_mixture(self, reading, eval_clips)


@dataclass(frozen=True)
class Media:
    """Clips and images in one run; each step's batch is of one medium.

    Of every `video_steps` + `image_steps` steps so many are of each, in an order shuffled anew. None: in
    proportion to the clips, as if all batches lay in one pile. Images are read as clips of one frame.
    """

    video: Mixture
    image: Mixture
    video_steps: int | None = None
    image_steps: int | None = None


def tokenizer_of(data: object) -> Tokenizer | None:
    """What reads the captions of an experiment's data, if anything does."""
    source = data.video if isinstance(data, Media) else data
    return source.reader.tokenizer if isinstance(source, Mixture) else None
