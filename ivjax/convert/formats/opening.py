"""Opens weights wherever they lie: a file of any format, an index of shards, or a folder with one of these.

Torch is not needed, and nothing that a pickle asks for is ever run: see `pickles`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ivjax.convert.formats.file_kinds import check_index, kind_of
from ivjax.convert.formats.safetensors_files import open_safetensors, unreadable
from ivjax.convert.formats.tensors import Joined, Tensors
from ivjax.convert.formats.torch_archive import open_torch
from ivjax.errors import UserError

_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
# The weights of a model of the transformers library, in the order in which they are taken. Such a folder
# often holds the same weights in several formats.
_OF_MODELS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def open_tensors(path: Path) -> Tensors:
    """Returns the tensors of a weight file, an index of shards, or a folder that holds one of these.

    FILE.safetensors may also be stored as shards, which FILE.safetensors.index.json lists.
    """
    try:
        file = _file_of(path.expanduser())
        tensors = _sharded(file) if file.name.endswith(".index.json") else _whole(file)
        tensors.config = _config_beside(file)
    except OSError as error:
        raise unreadable(path, error) from None
    return tensors


def index_of(path: Path) -> Path:
    """Returns the index of the shards that FILE.safetensors may be split into."""
    return path.with_name(f"{path.name}.index.json")


def _file_of(path: Path) -> Path:
    """Returns the file that is to be opened for what a user names."""
    if path.is_dir():
        return _file_in(path)
    # So a user may name FILE.safetensors whether or not it was too large for one file.
    if not path.exists() and index_of(path).is_file():
        return index_of(path)
    if not path.is_file():
        whole, _, branch = str(path).rpartition("#")
        if whole and Path(whole).exists():
            raise UserError(f"{whole} is read as a whole here; leave out #{branch}")
        raise UserError(
            f"{path} does not exist; give a .safetensors, .pt, .pth or .bin file{_hub_hint(path)}"
        )
    return path


def _hub_hint(path: Path) -> str:
    """Returns what to do with the name of a model on the Hub, such as openai/clip-vit-base-patch16."""
    if not re.fullmatch(r"[\w.-]+/[\w-]+", str(path)) or path.parent.exists():
        return ""
    return f". Nothing is downloaded here: `hf download {path} --local-dir DIR` fetches a model of the Hub"


def _file_in(folder: Path) -> Path:
    """Returns the one weight file of a folder."""
    indices = sorted(file for file in folder.glob("*.index.json") if file.name != "model_index.json")
    files = sorted(f for f in folder.iterdir() if f.suffix in (".safetensors", *_TORCH_SUFFIXES))
    of_models = [folder / name for name in _OF_MODELS if (folder / name).is_file()]
    # An index first: beside it lie its shards, none of which is the whole.
    for chosen in (indices, files, of_models[:1]):
        if len(chosen) == 1:
            return chosen[0]
    found = ", ".join(f.name for f in [*indices, *files]) or "no weight file"
    raise UserError(f"{folder} holds {found}; name the one file to read")


def _whole(path: Path) -> Tensors:
    return open_safetensors(path) if kind_of(path) == "safetensors" else open_torch(path)


def _sharded(index: Path) -> Tensors:
    check_index(index)
    try:
        places: dict[str, str] = json.loads(index.read_text())["weight_map"]
        files = sorted(set(places.values()))
        if not all(isinstance(file, str) for file in files):
            raise TypeError("the name of a shard is not a string")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{index} is no index of shards ({type(error).__name__}: {error})") from None
    for name in files:
        # By its name and not resolved: the shards of a download may be links to elsewhere.
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise UserError(f"{index} names {name!r}, which is not in its folder; it is not read")
    _check_all_there(index, files)
    shards = {name: _whole(index.parent / name) for name in files}
    missing = sorted(name for name, shard in places.items() if name not in shards[shard])
    if missing:
        raise UserError(f"{places[missing[0]]} lacks {missing[0]}, which {index.name} says it holds")
    # A tensor that the index does not name would silently be left out.
    extra = sorted(name for entries in shards.values() for name in entries if name not in places)
    if extra:
        raise UserError(
            f"{index.name} does not name {extra[0]}, which is in one of its shards; write the index again"
        )
    metadata = {key: value for shard in shards.values() for key, value in shard.metadata.items()}
    return Joined({name: shards[shard] for name, shard in places.items()}, metadata)


def _check_all_there(index: Path, files: Sequence[str]) -> None:
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more of its {len(files)} shards" if len(missing) > 1 else ""
        are, them = ("are", "them") if more else ("is", "that shard")
        raise UserError(f"{index.name} names {missing[0]}{more}, which {are} missing beside it; fetch {them}")


def _config_beside(file: Path) -> dict[str, Any]:
    """Returns what the config.json beside a file says of its model; nothing where there is none."""
    path = file.parent / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        # Without it a preset of the same shapes would be taken, with other arithmetic.
        raise UserError(f"{path} is no JSON ({error}); fetch it again, or take it away") from None
    return config if isinstance(config, dict) else {}
