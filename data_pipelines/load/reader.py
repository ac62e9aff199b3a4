"""How a stored clip becomes an example: options of an experiment, importable without any decoder."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ivjax.data_pipelines.augment.recipe import Augment
from ivjax.data_pipelines.sampling import FrameRule
from ivjax.data_pipelines.store.records import Clip, ClipError
from ivjax.data_pipelines.tokenizers.base import Tokenizer
from ivjax.data_pipelines.tokenizers.text import clean_caption

Purpose = Literal["frames", "crop", "pixels", "caption", "replacement", "mix"]


class ArraySpec(NamedTuple):
    """Shape and dtype of one row of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def generator(seed: int, index: int, purpose: Purpose) -> np.random.Generator:
    """Random numbers that depend on the seed, a global place and a purpose, and on nothing else."""
    counter = [0, 0, 0, zlib.crc32(purpose.encode())]
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, index], counter=counter))


@dataclass(frozen=True)
class ClipReader:
    """How a clip becomes an example: which frames, which crop and colours, which caption, which tokens.

    caption: a `random` one of the clip's captions, or the `first`; cleaned as the originals do if `clean`.
    """

    frames: FrameRule
    augment: Augment
    tokenizer: Tokenizer | None = None
    caption: Literal["random", "first"] = "random"
    clean: bool = True

    def video(self, clip: Clip, shape: Sequence[int], seed: int, index: int) -> np.ndarray:
        """Chosen frames, cropped, resized and augmented: (T, H, W, 3) uint8."""
        from ivjax.data_pipelines.video.decode import Video  # PyAV is not where only models are run

        with Video(clip.payload) as media:
            found = media.probe
            chosen = self.frames.choose(found.frames, found.fps, generator(seed, index, "frames"))
            box = self.augment.box(found.width, found.height, generator(seed, index, "crop"))
            video = media.read(chosen, box, (shape[1], shape[2]))
        return self.augment.pixels(video, generator(seed, index, "pixels"))

    def text(self, clip: Clip, seed: int, index: int) -> np.ndarray:
        """Token ids of a caption: (L,) int32."""
        assert self.tokenizer is not None
        if not clip.captions:
            raise ClipError("no caption", f"clip {clip.id} has none")
        place = 0
        if self.caption == "random":
            place = int(generator(seed, index, "caption").integers(len(clip.captions)))
        caption = clip.captions[place]
        return self.tokenizer.encode(clean_caption(caption) if self.clean else caption)
