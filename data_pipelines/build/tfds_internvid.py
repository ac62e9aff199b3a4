"""`internvid` for TFDS, without TensorFlow: `import` this module, then `tfds.builder("internvid", ...)`.

    config = InternvidConfig(name="flt", source="flt.jsonl", videos="videos/")
    builder = tfds.builder("internvid", config=config, data_dir="tfds/")
    builder.download_and_prepare()
    clips = builder.as_data_source("train")

What it has made is read again by `tfds.data_source("internvid/flt", data_dir="tfds/")`, and by ivjax from
the folder `tfds/internvid/flt/1.0.0`.
"""

import dataclasses
import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from ivjax.data_pipelines.build.options import BuildOptions, Draw, Filters, check_options
from ivjax.data_pipelines.build.plan import Plan, make_plan
from ivjax.data_pipelines.build.pool import Makers
from ivjax.data_pipelines.build.recipe import Drop, Outcome, Recipe
from ivjax.data_pipelines.build.report import REPORT_LINES, count_causes, report_lines
from ivjax.data_pipelines.sources.open import open_source
from ivjax.data_pipelines.store.numbering import Parts
from ivjax.data_pipelines.store.records import Clip, ClipError, Turn, unpack
from ivjax.drafts import store
from ivjax.errors import UserError

_NO_LABEL = -1
_DIGEST = "clips.sha256"


@dataclass(eq=False, kw_only=True)
class InternvidConfig(tfds.core.BuilderConfig):
    """What is made into clips, and how: the options of `ivjax data build`, see BuildOptions."""

    source: str = ""
    kind: str = "auto"
    videos: str | None = None
    source_options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe = Recipe()
    filters: Filters = Filters()
    draw: Draw | None = None
    workers: int = 0
    row_seconds: float = 600.0


class Internvid(tfds.core.GeneratorBasedBuilder):
    """Clips with captions, cut out of the videos that an annotation file names."""

    name = "internvid"
    code_path = None  # TFDS would look for it with importlib_resources, which it does not require
    VERSION: ClassVar = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Clips as H.264, with captions, times and scores."}

    def __init__(self, *, file_format: Any = "array_record", **options: Any):
        super().__init__(file_format=file_format, **options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=features())

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        config, folder = self._config(), Path(self.data_dir)
        options, plan = _planned(config, folder)
        drops = list(plan.drops)
        digest, number = hashlib.sha256(), -1
        with Makers(config.recipe, config.row_seconds, options.processes) as makers:
            outcomes = makers.run([row for job in plan.jobs for row in job.rows])
            for number, record in enumerate(_records(outcomes, drops)):
                digest.update(record)
                yield f"{number:012d}", clip_to_example(unpack(record))
        if number < 0:
            counts = count_causes(drops, plan.not_drawn)
            raise UserError(f"{config.source} gives no clip: of {plan.rows} rows, {counts}")
        store(folder / REPORT_LINES, report_lines(drops))
        store(folder / _DIGEST, digest.hexdigest())

    def _config(self) -> InternvidConfig:
        config = self.builder_config
        if not isinstance(config, InternvidConfig) or not config.source:
            raise UserError(
                "internvid needs a source: tfds.builder('internvid', config=InternvidConfig(...))"
            )
        return config


def _planned(config: InternvidConfig, folder: Path) -> tuple[BuildOptions, Plan]:
    options = BuildOptions(
        config.source,
        folder,
        recipe=config.recipe,
        filters=config.filters,
        draw=config.draw,
        workers=config.workers,
        row_seconds=config.row_seconds,
    )
    check_options(options)
    rows = open_source(config.source, kind=config.kind, videos=config.videos, **config.source_options)
    return options, make_plan(rows, options)


def _records(outcomes: Iterable[Outcome], drops: list[Drop]) -> Iterator[bytes]:
    for outcome in outcomes:
        drops += outcome.drops
        yield from outcome.records


def features() -> tfds.features.FeaturesDict:
    """How a clip lies in TFDS, whose records hold no more than 32 bits of a float."""
    text = tfds.features.Text
    return tfds.features.FeaturesDict(
        {
            "clip": tfds.features.Tensor(shape=(), dtype=np.object_),
            "id": text(),
            "media": text(),
            "video": text(),
            "captions": tfds.features.Sequence(text()),
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
    """A clip as `features` has it."""
    example = {f.name: getattr(clip, f.name) for f in dataclasses.fields(clip) if f.name != "payload"}
    return example | {
        "clip": clip.payload,
        "captions": list(clip.captions),
        "conversation": [dataclasses.asdict(turn) for turn in clip.conversation],
        "label": _NO_LABEL if clip.label is None else clip.label,
        "scores": [{"name": name, "value": value} for name, value in clip.scores.items()],
        "attributes": [{"name": name, "value": value} for name, value in clip.attributes.items()],
    }


def example_to_clip(example: Mapping[str, Any]) -> Clip:
    """A clip from what a TFDS data source gives: bytes for text, dicts of lists for sequences of dicts."""
    label = int(example["label"])
    turns = example["conversation"]
    return Clip(
        id=_text(example["id"]),
        payload=bytes(example["clip"]),
        media=_text(example["media"]),  # type: ignore[arg-type]
        captions=tuple(map(_text, example["captions"])),
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


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _pairs(sequence: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return zip(map(_text, sequence["name"]), sequence["value"], strict=True)


class TfdsClips:
    """Random access to the clips in the folder of a prepared TFDS dataset; for any number of threads."""

    def __init__(self, folder: Path):
        self._folder = folder
        builder = tfds.builder_from_directory(folder)
        if "train" not in builder.info.splits or "clip" not in (builder.info.features or {}):
            raise UserError(f"{folder} was not made by the TFDS builder internvid; name a folder that was")
        self._split = builder.info.splits["train"]
        self._parts = Parts(self._split.shard_lengths)
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
        """Shard name and record number of a clip."""
        shard, record = self._parts.locate(number)
        return self._split.filenames[shard], record

    def digest(self) -> str:
        """Changes when the corpus does."""
        path = self._folder / _DIGEST
        if not path.is_file():
            raise UserError(f"{path} is missing; copy it along with the shards, or build the dataset again")
        return path.read_text()

    def __reduce__(self) -> tuple[type["TfdsClips"], tuple[Path]]:
        return TfdsClips, (self._folder,)

    def close(self) -> None:
        """Closes the files."""
        self._source.data_source.__exit__(None, None, None)
