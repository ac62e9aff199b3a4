"""The TFDS builder `internvid`, without TensorFlow. Import this module to register it:

    config = InternvidConfig(name="flt", source="flt.jsonl", videos="videos/")
    builder = tfds.builder("internvid", config=config, data_dir="tfds/")
    builder.download_and_prepare()
    clips = builder.as_data_source("train")

What it has made is read again by `tfds.data_source("internvid/flt", data_dir="tfds/")`, and by ivjax from
the folder `tfds/internvid/flt/1.0.0`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ivjax.data_pipelines.build.build_report import REPORT_LINES, count_causes, report_lines
from ivjax.data_pipelines.build.clip_recipe import ClipRecipe, Drop, Outcome, Remark
from ivjax.data_pipelines.build.options import BuildOptions, Draw, Filters, check_options
from ivjax.data_pipelines.build.process_pool import Makers
from ivjax.data_pipelines.build.selection import BuildPlan, make_plan
from ivjax.data_pipelines.sources.open_source import open_source_of
from ivjax.data_pipelines.store.clips import CLASSES_FILE
from ivjax.data_pipelines.store.records import unpack

# TFDS through the module that says how to install it.
from ivjax.data_pipelines.store.tfds_clips import DIGEST_FILE, clip_to_example, features, tfds
from ivjax.drafts import store
from ivjax.errors import UserError


@dataclass(eq=False, kw_only=True)
class InternvidConfig(tfds.core.BuilderConfig):
    """Options of the dataset; they are those of `BuildOptions`."""

    source: str = ""
    kind: str = "auto"
    videos: str | None = None
    source_options: Mapping[str, Any] = field(default_factory=dict)
    classes: str | None = None
    recipe: ClipRecipe = ClipRecipe()
    filters: Filters = Filters()
    draw: Draw | None = None
    workers: int = 0
    row_seconds: float = 600.0


class Internvid(tfds.core.GeneratorBasedBuilder):
    """Clips with captions, cut from the videos that an annotation file names."""

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
        told: list[Drop | Remark] = list(plan.drops)
        digest, number = hashlib.sha256(), -1
        with Makers(config.recipe, config.row_seconds, options.processes) as makers:
            outcomes = makers.run([row for job in plan.jobs for row in job.rows])
            for number, record in enumerate(_records(outcomes, told)):
                # A digest of our own: TFDS stores none, and a resumed run must recognise its corpus.
                digest.update(record)
                yield f"{number:012d}", clip_to_example(unpack(record))
        if number < 0:
            counts = count_causes(told, plan.not_drawn)
            raise UserError(f"{config.source} gives no clip: of {plan.rows} rows, {counts}")
        store(folder / REPORT_LINES, report_lines(told))
        store(folder / CLASSES_FILE, json.dumps(plan.classes) + "\n")
        store(folder / DIGEST_FILE, digest.hexdigest())

    def _config(self) -> InternvidConfig:
        config = self.builder_config
        if not isinstance(config, InternvidConfig) or not config.source:
            raise UserError(
                "internvid needs a source: tfds.builder('internvid', config=InternvidConfig(...))"
            )
        return config


def _planned(config: InternvidConfig, folder: Path) -> tuple[BuildOptions, BuildPlan]:
    options = BuildOptions(
        config.source,
        folder,
        classes=config.classes,
        recipe=config.recipe,
        filters=config.filters,
        draw=config.draw,
        workers=config.workers,
        row_seconds=config.row_seconds,
    )
    check_options(options)
    rows = open_source_of(config.source, config.kind, config.videos, config.source_options)
    return options, make_plan(rows, options)


def _records(outcomes: Iterable[Outcome], told: list[Drop | Remark]) -> Iterator[bytes]:
    for outcome in outcomes:
        told += (*outcome.drops, *outcome.remarks)
        yield from outcome.records
