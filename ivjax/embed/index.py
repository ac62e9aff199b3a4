"""The file of embeddings: an .npz of `embeddings` or `tokens`, and who or what each row is."""

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from ivjax.drafts import draft_of
from ivjax.errors import UserError

Rows = Literal["embeddings", "tokens"]


@dataclass(frozen=True)
class Made:
    """How an index was made. `folder` is where relative paths were given; times are seconds."""

    weights: str
    preset: str | None
    tokenizer: str | None
    folder: str
    frames: int
    image: tuple[int, int]
    version: str
    window: float | None = None
    stride: float | None = None


class IndexWriter:
    """Writes an index whose rows need not fit into memory.

    They go to a raw file beside it as they come, and from there into the .npz through a small buffer; only
    names and times are kept. The index takes its name when `finish` is through; leaving the block
    otherwise leaves nothing.
    """

    def __init__(self, path: Path, rows: Rows = "embeddings", dtype: type = np.float32):
        self._path = path
        self._rows: Rows = rows
        self._dtype = np.dtype(dtype)
        self._raw = draft_of(path.with_name(f"{path.name}.{rows}"))
        self._columns: dict[str, list[Any]] = {}
        self._shape: tuple[int, ...] = ()
        self.count = 0

    def __enter__(self) -> "IndexWriter":
        if self._path.is_dir():
            raise UserError(f"{self._path} is a folder; name a file such as {self._path / 'index.npz'}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._raw.open("wb")
        except OSError as error:
            raise self._unwritten(error) from None
        return self

    def add(self, rows: np.ndarray, **columns: Sequence[Any]) -> None:
        """Appends rows (n, ...) and what is known of each."""
        self._shape = rows.shape[1:]
        self.count += len(rows)
        for name, values in columns.items():
            self._columns.setdefault(name, []).extend(values)
        try:
            self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        except OSError as error:
            raise self._unwritten(error) from None

    def finish(self, made: Made) -> None:
        """Makes the index of the rows."""
        draft = draft_of(self._path)
        try:
            self._file.close()
            arrays: dict[str, Any] = {name: np.array(values) for name, values in self._columns.items()}
            arrays[self._rows] = np.memmap(self._raw, self._dtype, "r", shape=(self.count, *self._shape))
            arrays["metadata"] = np.array(json.dumps(asdict(made)))
            with draft.open("wb") as file:
                np.savez(file, **arrays)
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
        self._file.close()
        self._raw.unlink(missing_ok=True)


@dataclass(frozen=True)
class Index:
    """Embeddings (n, D) float32 and, of each, the video with start and end in seconds, or the text."""

    path: Path
    embeddings: np.ndarray
    columns: Mapping[str, np.ndarray]
    made: Made

    @property
    def of_videos(self) -> bool:
        """Whether the rows are parts of videos."""
        return "video" in self.columns


def read_index(path: Path) -> Index:
    """An index of at least one embedding."""
    if not path.is_file():
        raise UserError(f"there is no index {path}; make one with `ivjax embed`")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != "tokens"}
        made = Made(**json.loads(arrays.pop("metadata").item()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is no whole index ({type(error).__name__}: {error}); make it again with `ivjax embed`"
        ) from None
    embeddings = arrays.pop("embeddings", None)
    if embeddings is None:
        raise UserError(f"{path} holds no embeddings to search; embed the videos without --tokens")
    _check(path, embeddings, arrays)
    return Index(path, embeddings, arrays, made)


def _check(path: Path, embeddings: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
    if not len(embeddings):
        raise UserError(f"{path} is empty; embed some videos")
    known = {"video", "start", "end"} <= set(columns) or "text" in columns
    if embeddings.ndim != 2 or not known or any(len(c) != len(embeddings) for c in columns.values()):
        raise UserError(f"{path} does not say what each embedding is; make it again with `ivjax embed`")
