"""Tensors by name, from any kind of file: shape and dtype are known before any is read."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

Shape = tuple[int, ...]  # numbers of entries along the axes of a tensor


class Tensors(Mapping[str, np.ndarray]):
    """Tensors by name; each one is read when it is asked for.

    Attributes:
        container: the key that held them in their file; `flat` for none.
        metadata: what the file says of itself.
        config: what the config.json beside the file says, which files of the transformers library have.
    """

    container = "flat"
    metadata: Mapping[str, str] = {}
    config: Mapping[str, Any] = {}

    @abstractmethod
    def shape(self, name: str) -> Shape:
        """Returns the shape without reading the tensor."""

    @abstractmethod
    def dtype(self, name: str) -> np.dtype:
        """Returns the numpy dtype without reading the tensor."""

    @abstractmethod
    def __contains__(self, name: object) -> bool:
        """Whether there is such a tensor. Mapping's own implementation would read it."""

    def layer(self, name: str, number: int) -> np.ndarray:
        """Returns entry `number` of the leading axis; files read no more than that."""
        return self[name][number]


class Described(Protocol):
    """An array, or the description of one that is still to be read."""

    @property
    def shape(self) -> Shape: ...

    @property
    def dtype(self) -> np.dtype: ...


Entry = TypeVar("Entry", bound=Described)


class Listed(Tensors, Generic[Entry]):
    """Tensors that are described by one entry each, with its shape and dtype."""

    def __init__(self, entries: Mapping[str, Entry]):
        self._entries = dict(entries)

    def shape(self, name: str) -> Shape:
        return self._entries[name].shape

    def dtype(self, name: str) -> np.dtype:
        return self._entries[name].dtype

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Arrays(Listed[np.ndarray]):
    """Arrays of numpy or jax that are in memory already."""

    def __init__(self, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None):
        super().__init__({name: np.asarray(array) for name, array in arrays.items()})
        self.metadata = metadata or {}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._entries[name]


class Renamed(Tensors):
    """Some of the tensors of `whole`, under other names: new name -> its name there."""

    def __init__(self, whole: Tensors, names: Mapping[str, str]):
        self._whole = whole
        self._names = names
        self.container = whole.container
        self.metadata = whole.metadata
        self.config = whole.config

    def shape(self, name: str) -> Shape:
        return self._whole.shape(self._names[name])

    def dtype(self, name: str) -> np.dtype:
        return self._whole.dtype(self._names[name])

    def layer(self, name: str, number: int) -> np.ndarray:
        return self._whole.layer(self._names[name], number)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._whole[self._names[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Joined(Tensors):
    """The tensors of several files: shards of one."""

    def __init__(self, places: Mapping[str, Tensors], metadata: Mapping[str, str]):
        self._places = places
        self.metadata = metadata

    def shape(self, name: str) -> Shape:
        return self._places[name].shape(name)

    def dtype(self, name: str) -> np.dtype:
        return self._places[name].dtype(name)

    def layer(self, name: str, number: int) -> np.ndarray:
        return self._places[name].layer(name, number)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._places[name][name]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def below(whole: Tensors, prefix: str) -> Tensors:
    """Returns the tensors whose names start with a prefix, under their names without it."""
    return Renamed(whole, {n.removeprefix(prefix): n for n in whole if n.startswith(prefix)})


def stripped(whole: Tensors, prefix: str) -> Tensors:
    """Returns all tensors; names that start with the prefix lose it."""
    return Renamed(whole, {n.removeprefix(prefix): n for n in whole}) if prefix else whole


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is still to be made.

    Attributes:
        name: its name in the file that is written.
        shape: its shape.
        dtype: the dtype that it is written in.
        chunks: makes it in consecutive chunks of any shape, so that it need never be in memory as a whole.
    """

    name: str
    shape: Shape
    dtype: np.dtype
    chunks: Callable[[], Iterable[np.ndarray]]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * self.dtype.itemsize

    def pieces(self) -> Iterator[np.ndarray]:
        """Yields the chunks as flat arrays of the tensor's dtype."""
        for chunk in self.chunks():
            # A transform gives a view that may be transposed; only one chunk of it is copied.
            yield np.ascontiguousarray(chunk, self.dtype).reshape(-1)

    def read(self) -> np.ndarray:
        """Returns the whole tensor."""
        # Filled chunk by chunk, because np.concatenate would hold the tensor twice.
        whole, place = np.empty(self.shape, self.dtype), 0
        for piece in self.pieces():
            whole.reshape(-1)[place : place + piece.size] = piece
            place += piece.size
        return whole
