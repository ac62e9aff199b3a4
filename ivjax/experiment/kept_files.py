"""What a run folder keeps beside its checkpoints, so that it can be opened anywhere.

`vocabulary/` holds the files that the experiment names by path, vocabulary.json says which option named each;
`classes.json` holds the class names; `frozen.safetensors` the parameters that the model has and the run never
trains.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ivjax.drafts import draft_of, store
from ivjax.errors import UserError
from ivjax.experiment.branches import replaced
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import leaves

FROZEN = "frozen.safetensors"
_FILES, _INDEX, _CLASSES = "vocabulary", "vocabulary.json", "classes.json"


class KeptFile(NamedTuple):
    """A copy in a run folder.

    Attributes:
        file: its name in the folder of copies.
        sha256: hash of its bytes.
        was: the path that the experiment gives.
    """

    file: str
    sha256: str
    was: str


def keep_files(folder: Path, files: Mapping[str, str]) -> None:
    """Copies files into a run folder: dotted path of the option that names it -> path of the file."""
    kept = {}
    for option, was in files.items():
        source = Path(was).expanduser()
        digest = _digest(source)
        # By content, so that two files of one name stay apart and options of one file share its copy.
        name = f"{digest[:8]}_{source.name}"
        if not (folder / _FILES / name).is_file():
            _copy(source, folder / _FILES / name)
        kept[option] = KeptFile(name, digest, was)._asdict()
    if kept:
        store(folder / _INDEX, json.dumps(kept, indent=1) + "\n")


def kept_files(folder: Path) -> dict[str, KeptFile]:
    """Returns the copies that a run folder holds, by the option that names each."""
    index = folder / _INDEX
    if not index.is_file():
        return {}
    return {option: KeptFile(**kept) for option, kept in json.loads(index.read_text()).items()}


def with_kept_files(experiment: Experiment, folder: Path) -> Experiment:
    """Returns the experiment with the copies of its run folder in place of the files that it names."""
    known = leaves(experiment)
    for option, kept in kept_files(folder).items():
        copy = folder / _FILES / kept.file
        if option in known and copy.is_file():
            experiment = replaced(experiment, option.split("."), str(copy.absolute()))
    return experiment


def check_kept_files(experiment: Experiment, folder: Path) -> None:
    """Raises UserError if an option names a file of another content than the run began with."""
    known = leaves(experiment)
    for option, kept in kept_files(folder).items():
        now, copy = Path(str(known.get(option, ""))).expanduser(), folder / _FILES / kept.file
        # A file that is gone is no error: the copy is there for that.
        if now.is_file() and _digest(now) != kept.sha256:
            raise UserError(
                f"{option}={now} is another vocabulary than this run began with, of which {copy} is a copy; "
                "set it to that, or begin a new run in another folder"
            )


def keep_classes(folder: Path, names: Sequence[str]) -> None:
    """Stores the class names of a run in the order of their numbers."""
    if names:
        store(folder / _CLASSES, json.dumps(list(names), indent=1, ensure_ascii=False) + "\n")


def kept_classes(folder: Path) -> tuple[str, ...]:
    """Returns the class names that a run folder holds, in the order of their numbers; none if it has none."""
    file = folder / _CLASSES
    return tuple(json.loads(file.read_text("utf-8"))) if file.is_file() else ()


def hand_on(run: Path, folder: Path) -> None:
    """Gives a folder inside a run, which is opened like the run, all that the run keeps."""
    for file in (_INDEX, _CLASSES, FROZEN, *(f"{_FILES}/{kept.file}" for kept in kept_files(run).values())):
        source, target = run / file, folder / file
        if source.is_file() and not target.exists():
            _copy(source, target, link=True)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _copy(source: Path, target: Path, link: bool = False) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(target)
    try:
        try:
            if not link:
                raise OSError
            os.link(source, draft)  # frozen parameters may be gigabytes
        except OSError:
            shutil.copyfile(source, draft)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
