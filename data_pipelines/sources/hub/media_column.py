"""Finds the column of a table that holds the videos, by type and by name."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import pyarrow
from pyarrow import types

from ivjax.data_pipelines.sources.columns import ALIASES, plain
from ivjax.data_pipelines.store.records import MediaKind
from ivjax.errors import UserError

_FEATURES = b"huggingface"  # the schema's entry that says what `datasets` calls the columns
_MEDIA: Mapping[Any, MediaKind] = {"Video": "video", "Image": "image"}
_FILE_NAME = "_file_name"  # how `datasets` ends the names of columns of paths beside metadata
_VIDEO_PATHS = ("video", "video_path", f"video{_FILE_NAME}")
_PATHS = (*_VIDEO_PATHS, *(name for name in ALIASES["path"] if name not in _VIDEO_PATHS))

ColumnFeatures: TypeAlias = Mapping[str, Mapping[str, Any]]  # what `datasets` says of columns, by name


class MediaColumn(NamedTuple):
    """A column of media.

    Attributes:
        name: its name.
        cells: what a cell is: the bytes of a file, a struct of `bytes` and `path`, or the path of a file.
        media: what all of them are; None where each has to be looked at.
    """

    name: str
    cells: Literal["bytes", "struct", "path"]
    media: MediaKind | None = None


def features_of(schema: pyarrow.Schema, where: str) -> ColumnFeatures:
    """Returns what `datasets` stored of the columns of a table, by name; nothing where it did not."""
    stored = (schema.metadata or {}).get(_FEATURES)
    if stored is None:
        return {}
    try:
        found = json.loads(stored)["info"]["features"]
        return {str(name): entry for name, entry in found.items() if isinstance(entry, Mapping)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(
            f"the features that {where} names are damaged ({told}); write the file again"
        ) from None


def media_column(
    schema: pyarrow.Schema, features: ColumnFeatures, where: str, wanted: str | None = None
) -> MediaColumn:
    """Returns the column of the videos, or of the images, or the `wanted` one; UserError without."""
    has = f"it has {', '.join(schema.names)}"
    if wanted is not None:
        if (chosen := _columns(schema, features).get(wanted)) is None:
            fault = "holds neither media nor paths" if wanted in schema.names else "is not there"
            raise UserError(f"the column {wanted} of {where} {fault}; {has}")
        return chosen
    found = likely_columns(schema, features)
    if not found:
        raise UserError(
            f"{where} has no column of videos: of the type Video or Image, of bytes, or of paths and called "
            f"{', '.join(_PATHS)}; name another with --set video_from=COLUMN; {has}"
        )
    # Of columns of paths the best name counts; two columns of media are two videos of a row.
    if len(found) > 1 and found[0].cells != "path":
        names = ", ".join(column.name for column in found)
        raise UserError(
            f"{where} has the columns {names} of media; choose with --set video_from={found[0].name}"
        )
    return found[0]


def likely_columns(schema: pyarrow.Schema, features: ColumnFeatures) -> Sequence[MediaColumn]:
    """Returns the columns that may be that of the videos and are equally likely; none without any."""
    columns = _columns(schema, features).values()
    stored = [column for column in columns if column.cells != "path"]
    paths = [column for column in columns if column.cells == "path" and path_rank(column.name) is not None]
    paths.sort(key=lambda column: path_rank(column.name) or 0)
    groups = (
        [column for column in columns if column.media == "video"],
        [column for column in stored if column.media is None],
        [column for column in paths if plain(column.name) in _VIDEO_PATHS],
        [column for column in columns if column.media == "image"],
        paths,
    )
    found = next((group for group in groups if group), [])
    called_video = [column for column in found if plain(column.name) == "video"]
    return called_video or found


def path_rank(name: str) -> int | None:
    """Returns how likely a column of text names the files of a row, 0 the most; None if it does not."""
    if plain(name) in _PATHS:
        return _PATHS.index(plain(name))
    return len(_PATHS) if plain(name).endswith(_FILE_NAME) else None


def holds_bytes(kind: pyarrow.DataType) -> bool:
    """Whether the cells of a type hold bytes, at any depth."""
    if types.is_struct(kind):
        return any(holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
    inner = getattr(kind, "value_type", None) if types.is_nested(kind) else None
    return _is_bytes(kind) or (inner is not None and holds_bytes(inner))


def _columns(schema: pyarrow.Schema, features: ColumnFeatures) -> dict[str, MediaColumn]:
    """Returns all columns that may hold media or paths, by name."""
    found = {name: _column(schema.field(name), features.get(name, {})) for name in schema.names}
    return {name: column for name, column in found.items() if column is not None}


def _column(field: pyarrow.Field, feature: Mapping[str, Any]) -> MediaColumn | None:
    said, kind = feature.get("_type"), field.type
    media = _MEDIA.get(said)
    if media is None and said not in (None, "Value"):
        return None  # sound, classes
    if types.is_struct(kind):
        parts = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
        whole = _is_bytes(parts.get("bytes")) and _is_text(parts.get("path"))
        return MediaColumn(field.name, "struct", media) if whole else None
    if _is_bytes(kind):
        return MediaColumn(field.name, "bytes", media)
    return MediaColumn(field.name, "path", media) if _is_text(kind) else None


def _is_bytes(kind: pyarrow.DataType | None) -> bool:
    return kind is not None and (
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    )


def _is_text(kind: pyarrow.DataType | None) -> bool:
    return kind is not None and (
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    )
