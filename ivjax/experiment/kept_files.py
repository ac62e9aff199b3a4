"""What a run folder keeps beside its checkpoints, so that it can be opened anywhere.

`vocabulary/` holds the files, and folders of files, that the experiment names by path, and vocabulary.json
says which option named each. `classes.json` holds the class names, `frozen.safetensors` the parameters that
the model has and the run never trains.
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


class NamedFile(NamedTuple):
    """What an option of an experiment names by path.

    Attributes:
        path: a file, or a folder.
        beside: names of files that are read too, if they lie in the folder, or beside the file.
    """

    path: str
    beside: tuple[str, ...] = ()

    def sources(self) -> list[Path]:
        """Returns the files that are read; a file that is named itself comes first."""
        place = Path(self.path).expanduser()
        folder = place if place.is_dir() else place.parent
        others = [folder / name for name in self.beside if (folder / name).is_file()]
        return others if place.is_dir() else [place, *(other for other in others if other != place)]


class KeptFile(NamedTuple):
    """A copy in a run folder.

    Attributes:
        file: its place in the folder of copies; several files have a folder of their own there.
        sha256: hash of its bytes, or of the names and bytes of all that is read.
        was: the path that the experiment gives.
        beside: names of files that are read too.
    """

    file: str
    sha256: str
    was: str
    beside: tuple[str, ...] = ()


def keep_files(folder: Path, files: Mapping[str, NamedFile], nameless: bool = False) -> None:
    """Copies files into a run folder: dotted path of the option that names it -> what it names.

    With `nameless` nothing is said of the folders that they come from.
    """
    kept = {}
    for option, named in files.items():
        if not named.sources():
            files_there = ", ".join(named.beside)
            raise UserError(f"{option}={named.path} holds none of {files_there}; name another folder")
        digest = _digest(named)
        file = _keep(folder / _FILES, named, f"{digest[:8]}_")
        kept[option] = KeptFile(file, digest, file if nameless else named.path, named.beside)._asdict()
    if kept:
        store(folder / _INDEX, json.dumps(kept, indent=1) + "\n")


def _keep(copies: Path, named: NamedFile, prefix: str) -> str:
    """Copies what is named into a folder of copies; returns its place there."""
    place, sources = Path(named.path).expanduser(), named.sources()
    several = place.is_dir() or len(sources) > 1
    home = place if place.is_dir() else place.parent
    # By content, so that two files of one name stay apart and options of one file share its copy.
    top = prefix + (home if several else place).name.removeprefix(prefix)
    for source in sources:
        copy = copies / top / source.name if several else copies / top
        if not copy.is_file():
            _copy(source, copy)
    return f"{top}/{place.name}" if several and not place.is_dir() else top


def kept_files(folder: Path) -> dict[str, KeptFile]:
    """Returns the copies that a run folder holds, by the option that names each."""
    index = folder / _INDEX
    if not index.is_file():
        return {}
    try:
        found = {
            option: KeptFile(**kept | {"beside": tuple(kept.get("beside", ()))})
            for option, kept in json.loads(index.read_text()).items()
        }
        outside = next((kept.file for kept in found.values() if not _is_inside(kept)), None)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{index} is damaged ({error}); copy it again from where the folder came") from None
    # A folder may come from anybody.
    if outside is not None:
        raise UserError(f"{index} names {outside!r}, which is not in its folder; it is not read")
    return found


def _is_inside(kept: KeptFile) -> bool:
    parts = [*Path(kept.file).parts, *kept.beside]
    return not Path(kept.file).is_absolute() and not any(part == ".." or "/" in part for part in parts)


def with_kept_files(experiment: Experiment, folder: Path) -> Experiment:
    """Returns the experiment with the copies of its run folder in place of the files that it names."""
    known = leaves(experiment)
    for option, kept in kept_files(folder).items():
        copy = folder / _FILES / kept.file
        if option in known and copy.exists():
            experiment = replaced(experiment, option.split("."), str(copy.absolute()))
    return experiment


def check_kept_files(experiment: Experiment, folder: Path) -> None:
    """Raises UserError if an option names a file of another content than the run began with."""
    known = leaves(experiment)
    for option, kept in kept_files(folder).items():
        now, copy = NamedFile(str(known.get(option, "")), kept.beside), folder / _FILES / kept.file
        there = bool(now.path) and Path(now.path).expanduser().exists()
        # A file that is gone is no error: the copy is there for that.
        if there and _digest(now) != kept.sha256:
            raise UserError(
                f"{option}={now.path} is another vocabulary than this run began with, of which {copy} is a "
                "copy; set it to that, or begin a new run in another folder"
            )


def keep_classes(folder: Path, names: Sequence[str]) -> None:
    """Stores the class names of a run in the order of their numbers."""
    if names:
        store(folder / _CLASSES, json.dumps(list(names), indent=1, ensure_ascii=False) + "\n")


def kept_classes(folder: Path) -> tuple[str, ...]:
    """Returns the class names that a run folder holds, in the order of their numbers; none if it has none."""
    file = folder / _CLASSES
    if not file.is_file():
        return ()
    try:
        found = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise UserError(f"{file} is no list of class names; copy it again from where the folder came")
    return tuple(found)


def hand_on(run: Path, folder: Path) -> None:
    """Gives a folder inside a run, which is opened like the run, all that the run keeps."""
    copies = [
        source.relative_to(run).as_posix()
        for kept in kept_files(run).values()
        for source in NamedFile(str(run / _FILES / kept.file), kept.beside).sources()
    ]
    for file in (_INDEX, _CLASSES, FROZEN, *copies):
        source, target = run / file, folder / file
        if source.is_file() and not target.exists():
            _copy(source, target, link=True)


def _digest(named: NamedFile) -> str:
    digests = {}
    for source in named.sources():
        with source.open("rb") as opened:
            digests[source.name] = hashlib.file_digest(opened, "sha256").hexdigest()
    # Of a single file its own, as in folders of older runs.
    if len(digests) == 1 and not Path(named.path).expanduser().is_dir():
        return next(iter(digests.values()))
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


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
