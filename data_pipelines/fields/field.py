"""The protocol of fields: named options that make arrays of a batch from a stored clip.

Importable without any decoder: a config builds fields, worker processes run them.
"""

import abc
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from ivjax.data_pipelines.store.records import Clip
from ivjax.data_pipelines.video.clip_video import ClipVideo
from ivjax.errors import UserError


class ArraySpec(NamedTuple):
    """Shape and dtype of one row of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def generator(seed: int, place: int, purpose: str) -> np.random.Generator:
    """Random numbers that depend on the seed, a global place and a purpose, and on nothing else."""
    # Philox is counter-based: the numbers of any place are there at once, without those before it. The
    # purpose goes in by crc32, because Python's own hash differs from process to process.
    counter = [0, 0, 0, zlib.crc32(purpose.encode())]
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, place], counter=counter))


class RowDraw(NamedTuple):
    """The random numbers of one row.

    Attributes:
        seed: that of the run.
        place: the row's global place in the order of clips.
        first: the first of the places at which this clip is repeated (`Mixture.repeats`).
    """

    seed: int
    place: int
    first: int

    def __call__(self, purpose: str) -> np.random.Generator:
        """Random numbers for one purpose, different in each repeat of a clip."""
        return generator(self.seed, self.place, purpose)

    def shared(self, purpose: str) -> np.random.Generator:
        """Random numbers for one purpose, the same in all repeats of a clip."""
        return generator(self.seed, self.first, purpose)


class ReadableClip(Protocol):
    """A stored clip as a field sees it."""

    @property
    def record(self) -> Clip:
        """Captions, times, labels and the media bytes."""
        ...

    @property
    def video(self) -> ClipVideo:
        """The pictures, opened when the first field asks for them."""
        ...

    def kept(self, columns: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns what `make` makes of the clip at each visit alike, (n, columns) float32; it may be kept."""
        ...


class Field(Protocol):
    """Makes arrays of a batch from a stored clip. A frozen dataclass, so that configs can hold it.

    Fields run in worker processes: a module that defines one imports neither jax nor grain.

    A field that does with less where a clip lacks what it reads says so: `instead` tells a person what stands
    in for it, and `remarks(arrays)` returns words for its arrays of one row, which the log counts.
    """

    def arrays(self, name: str) -> tuple[str, ...]:
        """Names of the arrays that the field can make when it is called `name` in `data.fields`."""
        ...

    def check(self, path: str, wanted: Mapping[str, ArraySpec]) -> None:
        """Raises UserError if the field cannot make the `wanted` arrays; `path` is where its options are."""
        ...

    def make(
        self, clip: ReadableClip, wanted: Mapping[str, ArraySpec], draw: RowDraw
    ) -> Mapping[str, np.ndarray]:
        """The `wanted` arrays of one row; raises ClipError for a clip that cannot be used."""
        ...


@dataclass(frozen=True)
class SingleArray(abc.ABC):
    """A field of one array, which has the field's name.

    Subclasses define `array`, and `shape` if it is fixed.
    """

    def arrays(self, name: str) -> tuple[str, ...]:
        """Returns the field's name."""
        return (name,)

    def check(self, path: str, wanted: Mapping[str, ArraySpec]) -> None:
        """Raises UserError if the stage wants another shape than a fixed one."""
        for name, spec in wanted.items():
            if self.shape is not None and spec.shape != self.shape:
                raise UserError(f"{path} gives {self.shape} and the stage wants {name} as {spec.shape}")

    def make(
        self, clip: ReadableClip, wanted: Mapping[str, ArraySpec], draw: RowDraw
    ) -> Mapping[str, np.ndarray]:
        """Returns the one array of a row, under its name."""
        return {name: self.array(clip, spec, draw) for name, spec in wanted.items()}

    def check_record(self, record: Clip) -> None:
        """Raises ClipError if the record lacks what the field reads, as far as that shows without its media.

        Asked of some records at a start, where a corpus that has none of it is an error.
        """
        return None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape that comes out; None: whatever the stage wants."""
        return None

    @abc.abstractmethod
    def array(self, clip: ReadableClip, spec: ArraySpec, draw: RowDraw) -> np.ndarray:
        """Returns the array of one row, of `spec.shape`; raises ClipError for a clip that cannot be used."""
