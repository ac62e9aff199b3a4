"""What a corpus is made of, apart from its bytes: comparable between machines and library versions."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import av

from ivjax.data_pipelines.build.clip_recipe import ClipRecipe
from ivjax.data_pipelines.build.shard_jobs import ShardJob
from ivjax.data_pipelines.build.talks import Talk, talks_digest
from ivjax.data_pipelines.sources.media import media_size
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.records import SCHEMA


def source_digest(
    jobs: Sequence[ShardJob], recipe: ClipRecipe, classes: Sequence[str], talks: Sequence[Talk] = ()
) -> str:
    """Returns a hash of the selected rows in order, the sizes of their files, the recipe and the class names.

    Conversations about the rows' clips count too.

    Neither folders nor the number of clips in a shard change it.
    """
    digest = hashlib.sha256(repr((SCHEMA, recipe, tuple(classes))).encode())
    path: str | None = None
    size: int | None = None
    for job in jobs:
        for row in job.rows:
            # Rows of one file stand together, so that each file is asked once.
            if row.path != path:
                path, size = row.path, media_size(row.path)
            digest.update((repr((_without_folder(row), size)) + row.texts_hashed()).encode())
    if talks:
        digest.update(talks_digest(talks).encode())
    return digest.hexdigest()


def _without_folder(row: SourceRow) -> SourceRow:
    return replace(
        row,
        path=PurePosixPath(row.path).name,
        # Sorted: the order of a table's columns is not part of what a row says.
        scores=dict(sorted(row.scores.items())),
        attributes=dict(sorted(row.attributes.items())),
    )


def libraries() -> dict[str, str]:
    """Returns the versions of the libraries that decode and encode; others may give other bytes."""
    versions = {name: ".".join(map(str, version)) for name, version in sorted(av.library_versions.items())}
    return {"av": av.__version__} | versions
