"""Clips in TFDS: the features of an example, and random access to a prepared dataset."""

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.data_pipelines.store.manifest import BucketShard
from ivjax.data_pipelines.store.numbering import Concatenation, spread
from ivjax.data_pipelines.store.records import Clip, ClipError, Turn
from ivjax.errors import UserError

try:
    import tensorflow_datasets as tfds
except ModuleNotFoundError as error:
    raise ImportError(
        "TFDS datasets are made and read by tensorflow-datasets, which is not installed: pip install "
        "'ivjax[tfds]', or build shards with `ivjax data build`"
    ) from error

DIGEST_FILE = "clips.sha256"  # beside the shards: changes when the corpus does
# TFDS's features have no missing values.
_NO_LABEL = -1


def features() -> tfds.features.FeaturesDict:
    """Returns the features of a clip. TFDS stores floats with 32 bits."""
    text = tfds.features.Text
    return tfds.features.FeaturesDict(
        {
            # Bytes and not features.Video, which needs TensorFlow.
            "clip": tfds.features.Tensor(shape=(), dtype=np.object_),
            "id": text(),
            "media": text(),
            "video": text(),
            "captions": tfds.features.Sequence(text()),
            "texts": tfds.features.Sequence({"kind": text(), "text": text()}),
            "conversation": tfds.features.Sequence({"role": text(), "text": text()}),
            "label": np.int64,
            "start": np.float32,
            "end": np.float32,
            "frames": np.int64,
            "fps": np.float32,
            "width": np.int64,
            "height": np.int64,
            "audio": np.bool_,
            "scores": tfds.features.Sequence({"name": text(), "value": np.float32}),
            "attributes": tfds.features.Sequence({"name": text(), "value": text()}),
        }
    )


def clip_to_example(clip: Clip) -> dict[str, Any]:
    """Returns the example of a clip, as `features` describes it."""
    example = {f.name: getattr(clip, f.name) for f in dataclasses.fields(clip) if f.name != "payload"}
    return example | {
        "clip": clip.payload,
        "captions": list(clip.captions),
        "texts": [{"kind": k, "text": text} for k, texts in clip.texts.items() for text in texts],
        "conversation": [dataclasses.asdict(turn) for turn in clip.conversation],
        "label": _NO_LABEL if clip.label is None else clip.label,
        "scores": [{"name": name, "value": value} for name, value in clip.scores.items()],
        "attributes": [{"name": name, "value": value} for name, value in clip.attributes.items()],
    }


def example_to_clip(example: Mapping[str, Any]) -> Clip:
    """Returns the clip of an example. Data sources give bytes for text, dicts of lists for lists of dicts."""
    label = int(example["label"])
    turns = example["conversation"]
    return Clip(
        id=_text(example["id"]),
        payload=bytes(example["clip"]),
        media=_text(example["media"]),  # type: ignore[arg-type]
        captions=tuple(map(_text, example["captions"])),
        texts=_by_kind(example.get("texts")),
        conversation=tuple(
            Turn(_text(role), _text(text))  # type: ignore[arg-type]
            for role, text in zip(turns["role"], turns["text"], strict=True)
        ),
        label=None if label == _NO_LABEL else label,
        video=_text(example["video"]),
        start=float(example["start"]),
        end=float(example["end"]),
        frames=int(example["frames"]),
        fps=float(example["fps"]),
        width=int(example["width"]),
        height=int(example["height"]),
        audio=bool(example["audio"]),
        scores={name: float(value) for name, value in _pairs(example["scores"])},
        attributes={name: _text(value) for name, value in _pairs(example["attributes"])},
    )


def _by_kind(texts: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """Returns further texts by kind; datasets that were made before there were any have none."""
    found: dict[str, tuple[str, ...]] = {}
    for kind, text in zip(texts["kind"], texts["text"], strict=True) if texts else ():
        found[_text(kind)] = (*found.get(_text(kind), ()), _text(text))
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _pairs(sequence: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return zip(map(_text, sequence["name"]), sequence["value"], strict=True)


class TfdsClips:
    """Random access to the clips of a prepared TFDS dataset. Thread-safe; can be pickled.

    Attributes:
        numbering: the numbers of the clips, by shard.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        builder = tfds.builder_from_directory(folder)
        if "train" not in builder.info.splits or "clip" not in (builder.info.features or {}):
            raise UserError(f"{folder} was not made by the TFDS builder internvid; name a folder that was")
        self._split = builder.info.splits["train"]
        self.numbering = Concatenation(self._split.shard_lengths)
        self._source = builder.as_data_source("train")
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> Clip:
        try:
            with self._lock:
                example = self._source[number]
            return example_to_clip(example)
        except UnicodeDecodeError as error:
            raise ClipError("not utf-8", f"the text of the example is not UTF-8: {error.reason}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ClipError("not a record", f"{type(error).__name__}: {error}") from None

    def place(self, number: int) -> tuple[str, int]:
        """Returns the shard's name and the record's number of a clip."""
        shard, record = self.numbering.locate(number)
        return self._split.filenames[shard], record

    def remote(self, number: int) -> BucketShard | None:
        """Returns None: TFDS reads its shards by itself."""
        return None

    def samples(self, count: int) -> Sequence[int]:
        """Returns about so many numbers of clips."""
        return spread(range(len(self)), count)

    def digest(self) -> str:
        """Returns a hash that changes with the corpus."""
        path = self._folder / DIGEST_FILE
        if not path.is_file():
            raise UserError(f"{path} is missing; copy it along with the shards, or build the dataset again")
        return path.read_text()

    def __reduce__(self) -> tuple[type["TfdsClips"], tuple[Path]]:
        return TfdsClips, (self._folder,)

    def close(self) -> None:
        """Closes the files."""
        self._source.data_source.__exit__(None, None, None)
