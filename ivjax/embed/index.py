"""The file of embeddings: an .npz of `embeddings` or `tokens`, and who or what each row is."""

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

import numpy as np

from ivjax.drafts import draft_of
from ivjax.errors import UserError

IndexContent = Literal["embeddings", "tokens"]  # one vector of each video, or all its tokens


@dataclass(frozen=True)
class IndexOrigin:
    """The origin of an index, stored in it.

    Attributes:
        weights: the run folder or weight file.
        preset: which model the file holds, where it does not say.
        tokenizer: another vocabulary file than the model names.
        folder: the working directory, to which relative paths belong.
        frames: frames of a clip.
        image: their height and width.
        version: of ivjax.
        window: seconds of a window (None: whole videos).
        stride: seconds from one window to the next.
        feature: what a row is: the `embedding` of a pair of towers, which texts are compared with, or what a
            tower `pooled`, or its `mean` patch.
        reading: which frames and which part of the picture were read, in words.
        medium: what of a video a row is of: the `video`, its `audio`, or `both`.
    """

    weights: str
    preset: str | None
    tokenizer: str | None
    folder: str
    frames: int
    image: tuple[int, int]
    version: str
    window: float | None = None
    stride: float | None = None
    feature: str = "embedding"
    reading: str = ""
    medium: str = "video"


class IndexWriter:
    """Writes an index whose rows need not fit into memory.

    Rows go to raw files beside the index as they come, and from there into the .npz through a small buffer;
    only names and times stay in memory. The index takes its name at the end of `finish`; a block that is left
    before leaves no file.
    """

    def __init__(self, path: Path, dtypes: Mapping[IndexContent, type] | None = None):
        """`dtypes` says which arrays are stored, and as what; embeddings as float32 if left out."""
        self._path = path
        self._arrays = [
            # Beside the index and not in /tmp, which is often small or in memory.
            _RawArray(name, np.dtype(dtype), draft_of(path.with_name(f"{path.name}.{name}")))
            for name, dtype in (dtypes or {"embeddings": np.float32}).items()
        ]
        self._columns: dict[str, list[Any]] = {}
        self.count = 0

    def __enter__(self) -> "IndexWriter":
        if self._path.is_dir():
            raise UserError(f"{self._path} is a folder; name a file such as {self._path / 'index.npz'}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            for array in self._arrays:
                array.open()
        except OSError as error:
            raise self._unwritten(error) from None
        return self

    def add(self, rows: Mapping[IndexContent, np.ndarray], **columns: Sequence[Any]) -> None:
        """Appends rows (n, ...) to each array, and what is known of each row."""
        self.count += len(next(iter(rows.values())))
        for name, values in columns.items():
            self._columns.setdefault(name, []).extend(values)
        try:
            for array in self._arrays:
                array.append(rows[array.name])
        except OSError as error:
            raise self._unwritten(error) from None

    def finish(self, origin: IndexOrigin) -> None:
        """Writes the index of the rows that were added."""
        draft = draft_of(self._path)
        try:
            arrays: dict[str, Any] = {name: np.array(values) for name, values in self._columns.items()}
            # savez copies an array in small buffers, so that mapped rows never are in memory as a whole.
            arrays |= {array.name: array.mapped(self.count) for array in self._arrays}
            arrays["metadata"] = np.array(json.dumps(asdict(origin)))
            with draft.open("wb") as file:
                np.savez(file, **arrays)
            # Last and in one move: a reader finds the old index or the whole new one.
            os.replace(draft, self._path)
        except OSError as error:
            raise self._unwritten(error) from None
        finally:
            draft.unlink(missing_ok=True)

    def _unwritten(self, error: OSError) -> UserError:
        reason = error.strerror or error
        return UserError(f"{self._path} cannot be written: {reason}; make room or choose another folder")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for array in self._arrays:
            array.remove()


class _RawArray:
    """Rows of one shape in a raw file."""

    def __init__(self, name: IndexContent, dtype: np.dtype, path: Path):
        self.name: IndexContent = name
        self._dtype = dtype
        self._path = path
        self._shape: tuple[int, ...] = ()
        self._file: BinaryIO | None = None

    def open(self) -> None:
        self._file = self._path.open("wb")

    def append(self, rows: np.ndarray) -> None:
        assert self._file is not None
        self._shape = rows.shape[1:]
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)

    def mapped(self, count: int) -> np.ndarray:
        assert self._file is not None
        self._file.flush()
        return np.memmap(self._path, self._dtype, "r", shape=(count, *self._shape))

    def remove(self) -> None:
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Index:
    """An index in memory.

    Attributes:
        path: its file.
        embeddings: (n, D) float32.
        columns: by name, what is known of each row: `video`, `start` and `end` in seconds, or `text`.
        origin: where it came from.
    """

    path: Path
    embeddings: np.ndarray
    columns: Mapping[str, np.ndarray]
    origin: IndexOrigin

    @property
    def of_videos(self) -> bool:
        """Whether the rows are parts of videos."""
        return "video" in self.columns


def read_index(path: Path) -> Index:
    """Returns the index in a file; it must hold at least one embedding."""
    if not path.is_file():
        raise UserError(f"there is no index {path}; make one with `ivjax embed`")
    try:
        # A pickle would run code of whoever made the file.
        with np.load(path, allow_pickle=False) as file:
            # Tokens may be larger than memory, and a search has no use for them.
            arrays = {name: file[name] for name in file.files if name != "tokens"}
        origin = IndexOrigin(**json.loads(arrays.pop("metadata").item()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is not a complete index ({type(error).__name__}: {error}); "
            "make it again with `ivjax embed`"
        ) from None
    embeddings = arrays.pop("embeddings", None)
    if embeddings is None:
        raise UserError(f"{path} holds no embeddings to search; embed the videos with --pooled too")
    _check(path, embeddings, arrays)
    return Index(path, embeddings, arrays, origin)


def _check(path: Path, embeddings: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
    if not len(embeddings):
        raise UserError(f"{path} is empty; embed some videos")
    known = {"video", "start", "end"} <= set(columns) or "text" in columns
    if embeddings.ndim != 2 or not known or any(len(c) != len(embeddings) for c in columns.values()):
        raise UserError(f"{path} does not say what each embedding is; make it again with `ivjax embed`")
