"""The front matter of a dataset's README.md, as far as it says which files are which split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivjax.errors import UserError

_CARD = "README.md"
_MOST = 2**22  # bytes of a card that are read; front matter with thousands of classes has less
_FENCE = "---"


def data_files_of_card(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Returns config -> split -> patterns of files; nothing where the card lists none."""
    configs = front_matter(folder / _CARD).get("configs")
    entries = configs if isinstance(configs, list) else []
    found = {}
    for entry in entries:
        if isinstance(entry, Mapping) and (splits := _splits(entry.get("data_files"))):
            found[str(entry.get("config_name") or "default")] = splits
    return found


def front_matter(card: Path) -> Mapping[str, Any]:
    """Returns the YAML at the head of a Markdown file; nothing where there is none."""
    if not card.is_file():
        return {}
    with card.open("rb") as file:
        lines = file.read(_MOST).decode("utf-8-sig", "replace").splitlines()
    if not lines or lines[0].strip() != _FENCE or _FENCE not in lines[1:]:
        return {}
    import yaml

    try:
        # safe_load: a plain load would run code that a file names.
        found = yaml.safe_load("\n".join(lines[1 : lines.index(_FENCE, 1)]))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the head of {card} is no YAML ({reason}); mend it, or take the file away") from None
    return found if isinstance(found, Mapping) else {}


def _splits(data_files: Any) -> dict[str, list[str]]:
    """Returns split -> patterns of an entry `data_files`, which has three forms."""
    if isinstance(data_files, str):
        return {"train": [data_files]}
    if not isinstance(data_files, list):
        return {}
    if all(isinstance(entry, str) for entry in data_files):
        return {"train": data_files} if data_files else {}
    found = {}
    for entry in data_files:
        path = entry.get("path") if isinstance(entry, Mapping) else None
        patterns = [path] if isinstance(path, str) else path
        if isinstance(patterns, list) and all(isinstance(pattern, str) for pattern in patterns):
            found[str(entry.get("split") or "train")] = patterns
    return found
