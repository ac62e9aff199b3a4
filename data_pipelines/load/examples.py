"""A stored clip -> one example. Runs in worker processes: neither jax nor grain is imported here."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ivjax.data_pipelines.load.reader import ArraySpec, ClipReader, generator
from ivjax.data_pipelines.load.rows import PLACED
from ivjax.data_pipelines.store.clips import open_clips
from ivjax.data_pipelines.store.numbering import Concatenation
from ivjax.data_pipelines.store.records import Clip, ClipError, check_times
from ivjax.errors import UserError


class ExampleMaker:
    """Makes the arrays of `spec` from clip numbers that run through all corpora. Pickles.

    It can give video, text, label and `sample`, the clip's number; `index` and `replaced` are the loader's.
    """

    def __init__(self, folders: Sequence[str], reader: ClipReader, spec: Mapping[str, ArraySpec], seed: int):
        self.folders = tuple(folders)
        self.spec = dict(spec)
        self._reader = reader
        self._seed = seed
        self._arrays: dict[str, Callable[[Clip, int, int], np.ndarray]] = {
            "video": self._video,
            "text": self._text,
            "label": self._label,
            "sample": self._sample,
        }
        self._check()
        self.corpora = [open_clips(folder) for folder in self.folders]
        self._parts = Concatenation(len(corpus) for corpus in self.corpora)

    def make(self, index: int, number: int) -> dict[str, np.ndarray]:
        """The example of clip `number` at global place `index`; raises ClipError for a broken clip."""
        corpus, local = self.locate(number)
        try:
            clip = self.corpora[corpus][local]
            check_times(clip)
            return {
                name: self._arrays[name](clip, index, number).astype(spec.dtype, copy=False)
                for name, spec in self.spec.items()
                if name in self._arrays
            }
        except (ClipError, UserError):
            raise
        except Exception as error:  # whatever a strange clip provokes must not end the run
            raise ClipError("error", f"{type(error).__name__}: {error}") from error

    def range(self, corpus: int) -> range:
        """The clip numbers of a corpus."""
        return self._parts.range(corpus)

    def locate(self, number: int) -> tuple[int, int]:
        """Corpus, and number inside it."""
        return self._parts.locate(number)

    def replacement(self, number: int, index: int, attempt: int) -> int:
        """Which clip of the same corpus stands in for a broken one: the same on every host."""
        choices = self.range(self.locate(number)[0])
        draws = generator(self._seed, index, "replacement").integers(len(choices), size=attempt + 1)
        return choices[int(draws[attempt])]

    def close(self) -> None:
        """Closes the files."""
        for corpus in self.corpora:
            corpus.close()

    def _check(self) -> None:
        unknown = set(self.spec) - PLACED - set(self._arrays)
        if unknown:
            raise UserError(
                f"the stage wants {', '.join(sorted(unknown))} in its batch, which clips do not hold; "
                f"they give index, replaced, {', '.join(self._arrays)}"
            )
        if "video" in self.spec and self.spec["video"].shape[0] != self._reader.frames.frames:
            raise UserError(
                f"data.reader.frames gives {self._reader.frames.frames} frames and the stage wants "
                f"{self.spec['video'].shape[0]}; make them equal"
            )
        if "text" in self.spec:
            self._check_text(self.spec["text"].shape)

    def _check_text(self, shape: tuple[int, ...]) -> None:
        if self._reader.tokenizer is None:
            raise UserError("the stage wants text and data.reader.tokenizer is none; choose a tokenizer")
        self._reader.tokenizer.encode("a")  # a missing vocabulary is better met now than in a worker
        if shape != (self._reader.tokenizer.length,):
            raise UserError(
                f"data.reader.tokenizer.length={self._reader.tokenizer.length} and the stage wants "
                f"{shape[0]} tokens; make them equal"
            )

    def _video(self, clip: Clip, index: int, number: int) -> np.ndarray:
        return self._reader.video(clip, self.spec["video"].shape, self._seed, index)

    def _text(self, clip: Clip, index: int, number: int) -> np.ndarray:
        return self._reader.text(clip, self._seed, index)

    def _label(self, clip: Clip, index: int, number: int) -> np.ndarray:
        if clip.label is None:
            raise ClipError("no label", f"clip {clip.id} has none")
        return np.asarray(clip.label)

    def _sample(self, clip: Clip, index: int, number: int) -> np.ndarray:
        return np.asarray(number)
