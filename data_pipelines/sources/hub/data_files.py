"""The files of a dataset by config and split, in the layouts of the Hub and of `datasets`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar

from ivjax.data_pipelines.sources.hub.dataset_card import data_files_of_card
from ivjax.data_pipelines.sources.hub.split_names import canonical_split, fits, is_split_name, split_of
from ivjax.data_pipelines.sources.hub.split_tables import METADATA, DataFiles, is_table, whole_split
from ivjax.data_pipelines.sources.media import all_files
from ivjax.errors import UserError

T = TypeVar("T")
Splits = dict[str, DataFiles]  # by name

_STATE, _DICT = "state.json", "dataset_dict.json"  # what `save_to_disk` leaves beside its files
_DEFAULT = "default"  # the config of a dataset without configs
_DATA = "data"  # the Hub's folder of tables, which is no config


def data_files(path: Path, config: str | None = None, split: str | None = None) -> DataFiles:
    """Returns the files of a split of a dataset: of a table, or of a folder in any of the layouts.

    Raises UserError unless there is one config and one split, or `config` and `split` name them.
    """
    if path.is_file():
        only = split_of(PurePath(path.name))
        configs = {_DEFAULT: {only: DataFiles(only, (path,))}}
    else:
        configs = _configs(path)
    splits = _chosen(path, "config", configs, config)
    name = split if split is None or split in splits else canonical_split(split)
    return _chosen(path, "split", splits, name)


def is_dataset(folder: Path, holds_media: Callable[[Path], bool]) -> bool:
    """Whether a folder holds a dataset; `holds_media` tells it of a table."""
    if (folder / _DICT).is_file() or (folder / _STATE).is_file():
        return True
    # No deeper than the Hub's layouts are: a folder of a million videos should not be walked through.
    depths = ("*", "*/*", "*/*/*")
    tables = (path for depth in depths for path in sorted(folder.glob(depth)) if is_table(path))
    first = next(tables, None)
    described = (path for name in METADATA for depth in ("", "*/") for path in folder.glob(f"{depth}{name}"))
    return any(holds_media(path) for path in ([first] if first else described))


def _chosen(path: Path, what: str, found: Mapping[str, T], wanted: str | None) -> T:
    if wanted is None and len(found) == 1:
        return next(iter(found.values()))
    if wanted is not None and wanted in found:
        return found[wanted]
    has = f"{path} has the {what}{'s' if len(found) > 1 else ''} {', '.join(found)}"
    if wanted is None:
        raise UserError(f"{has}; choose one: --set {what}={next(iter(found))}")
    raise UserError(f"{has}, and no {what} {wanted}; choose another")


def _configs(folder: Path) -> dict[str, Splits]:
    """Returns the files of a folder by config and split; there are some."""
    if saved := _saved(folder):
        return {_DEFAULT: saved}
    files = [path.relative_to(folder) for path in all_files(folder)]
    if listed := _listed(folder, files):
        return listed
    if tables := [path for path in files if is_table(path)]:
        return _by_names(folder, tables)
    if described := [path for path in files if path.name in METADATA]:
        return {_DEFAULT: _described(folder, described)}
    raise UserError(
        f"{folder} holds no dataset: no .parquet or .arrow file, no {_STATE} of a saved one, and no "
        "metadata.csv, .jsonl or .parquet beside videos"
    )


def _saved(folder: Path) -> Splits:
    """Returns the splits that `save_to_disk` wrote; none where it wrote nothing."""
    if (folder / _DICT).is_file():
        names = _json(folder / _DICT).get("splits")
        if not isinstance(names, list) or not names:
            raise UserError(f"{folder / _DICT} names no splits; save the dataset again")
        return {str(name): _saved_split(_inside(folder, name, _DICT), str(name)) for name in names}
    if (folder / _STATE).is_file():
        found = _saved_split(folder, "")
        return {found.split: found}
    return {}


def _saved_split(folder: Path, name: str) -> DataFiles:
    state = _json(folder / _STATE)
    if state.get("_indices_data_files"):
        raise UserError(f"{folder} keeps the order of its rows in a file of its own; save the dataset again")
    entries = state.get("_data_files")
    listed = entries if isinstance(entries, list) else []
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed]
    if not names:
        raise UserError(f"{folder / _STATE} names no files; save the dataset again")
    files = tuple(_inside(folder, each, _STATE) for each in names)
    if missing := [file.name for file in files if not file.is_file()]:
        raise UserError(f"{folder} lacks {missing[0]}, which its {_STATE} names; fetch it")
    return DataFiles(name or str(state.get("_split") or "train"), files)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); save the dataset again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is no JSON object; save the dataset again")
    return found


def _inside(folder: Path, name: Any, who: str) -> Path:
    """Returns a file of a folder; UserError for a name that leads out of it."""
    if not isinstance(name, str) or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{folder / who} names {name!r}, which is not in its folder; it is not read")
    return folder / name


def _listed(folder: Path, files: Sequence[Path]) -> dict[str, Splits]:
    """Returns the configs that the dataset's card lists, as far as they have tables."""
    configs: dict[str, Splits] = {}
    for config, splits in data_files_of_card(folder).items():
        for split, patterns in splits.items():
            found = [path for path in files if any(fits(path, pattern) for pattern in patterns)]
            tables = [path for path in found if is_table(path)]
            if tables := tables or [path for path in found if path.name in METADATA]:
                configs.setdefault(config, {})[split] = whole_split(folder, split, tables)
    return configs


def _by_names(folder: Path, tables: Sequence[Path]) -> dict[str, Splits]:
    """Returns the configs, which are folders, and splits of tables that no card lists."""
    sorted_out: dict[str, dict[str, list[Path]]] = {}
    for path in tables:
        top = path.parts[0]
        config = _DEFAULT if len(path.parts) == 1 or top == _DATA or is_split_name(top) else top
        sorted_out.setdefault(config, {}).setdefault(split_of(path), []).append(path)
    return {
        config: {split: whole_split(folder, split, files) for split, files in splits.items()}
        for config, splits in sorted_out.items()
    }


def _described(folder: Path, tables: Sequence[Path]) -> Splits:
    """Returns the splits of videos that tables beside them, or above them, describe."""
    if list(tables) == [Path(tables[0].name)]:
        parts = sorted(path.name for path in folder.iterdir() if path.is_dir() and is_split_name(path.name))
        if parts:
            # One table of all splits, which are folders.
            return {split_of(PurePath(part)): DataFiles(part, (folder / tables[0],), part) for part in parts}
    splits: dict[str, list[Path]] = {}
    for path in tables:
        splits.setdefault(split_of(path.parent), []).append(path)
    return {split: whole_split(folder, split, files) for split, files in splits.items()}
