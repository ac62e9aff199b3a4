"""The command line to run elsewhere: checked here, and written with the paths that the machines there see."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.files import load_experiment, parse_name, with_each
from ivjax.experiment.listing import leaves, show
from ivjax.experiment.overrides import expand
from ivjax.launch.local_paths import NamedPath, paths_of_experiment, paths_of_options
from ivjax.launch.target import check_line
from ivjax.progress import Say

_BUCKET = re.compile(r"(gs|s3)://([\w.-]+)")
_NAMELESS = re.compile(r"\b(gs|s3)://(?![\w.-])")
# The rule of S3 and Cloud Storage; it refuses the BUCKET of an example that was left unedited.
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_WITH_RUN_FOLDER = ("train", "sweep")
IN_SEVERAL_PROCESSES = ("train", "eval")
"""The commands whose processes join and share the work. Any other would do all of it in each of them."""

# The port that jax itself takes on TPUs; any free one would do.
PORT = 8476
"""The port on which process 0 of a job on GPUs listens."""


class Mount(NamedTuple):
    """A bucket, or a folder of it, that machines see as folder `path`."""

    path: str
    scheme: str
    bucket: str
    folder: str = ""

    @property
    def url(self) -> str:
        """The address gs://BUCKET/FOLDER."""
        return f"{self.scheme}://{self.bucket}" + (f"/{self.folder}" if self.folder else "")


@dataclass(frozen=True)
class LaunchedCommand:
    """An ivjax command line as typed.

    Attributes:
        words: the words after `ivjax`.
        config: the config that it names; None for commands without one.
        overrides: its overrides.
        options: all of its values, as argparse stores them.
    """

    words: tuple[str, ...]
    config: str | None = None
    overrides: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for word in self.words:
            check_line("a word of the command", word)

    @property
    def workdir(self) -> str | None:
        """The run folder as typed. It is no Path, which would lose a slash of gs://."""
        for word, following in zip(self.words, (*self.words[1:], None), strict=True):
            # Both ways that argparse accepts a value.
            if word == "--workdir" or word.startswith("--workdir="):
                return word.partition("=")[2] or following
        return None

    @property
    def command(self) -> str:
        """The first word, such as train."""
        return self.words[0]

    @property
    def file(self) -> Path | None:
        """The config file if it is the user's own, which must travel with the job; None for shipped ones."""
        file = parse_name(self.config or "").file
        # Only a path ends with .py; a shipped config is named without it, and every host has it.
        return Path(file).absolute() if file.endswith(".py") else None

    @property
    def name(self) -> str:
        """The config's name in the form that clusters accept for a job."""
        file, variants = parse_name(self.config or self.command)
        stem = "-".join([Path(file).stem, *variants])
        # Cut at 40 as `check_name` asks; the cut may fall behind a hyphen, which no name may end with.
        return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].rstrip("-")

    def experiments(self, say: Say | None = None) -> list[Experiment]:
        """Returns the config with the overrides, to find mistakes before machines are rented.

        `say` is told what the user should know about them.
        """
        if self.config is None:
            return []
        experiment = load_experiment(self.config)
        # Of a sweep every combination is tried: the last one's mistake would show after the others have run.
        runs = [self.overrides] if self.command == "train" else expand(self.overrides)
        return with_each(experiment, runs, say)

    def with_buckets_of(self, experiments: Sequence[Experiment]) -> "LaunchedCommand":
        """Returns the command with an override for each value of its config file that names a bucket.

        Words are what buckets are mounted for and what their folders are put into, so these become words.
        """
        here = shlex.join(self.words)
        values = {path: show(value) for path, value in leaves(experiments[0]).items()} if experiments else {}
        added = [
            f"{path}={repr(text) if ',' in text and not text.startswith('(') else text}"
            for path, text in values.items()
            if any(found[0] not in here for found in _BUCKET.finditer(text))
        ]
        if not added or self.config is None:
            return self
        # Behind the config and the overrides, which may have made the place that a path leads to.
        known = {self.config, f"--config={self.config}", *self.overrides}
        last = max(place for place, word in enumerate(self.words) if word in known)
        words = (*self.words[: last + 1], *added, *self.words[last + 1 :])
        return replace(self, words=words, overrides=(*self.overrides, *added))

    def paths(self, experiments: Sequence[Experiment]) -> list[NamedPath]:
        """Returns the files and folders that the command reads and writes."""
        found = [named for experiment in experiments for named in paths_of_experiment(experiment)]
        return [*paths_of_options(self.options, self.words), *found]

    def check_hosts(self, hosts: int) -> None:
        """Raises if this command cannot run on `hosts` hosts, or has no run folder."""
        if hosts > 1 and self.command not in IN_SEVERAL_PROCESSES:
            other = ", or start each run by itself: ivjax sweep --launch" if self.command == "sweep" else ""
            raise UserError(
                f"{self.command} runs in one process and the target has {hosts} hosts; take a topology of one"
                f"{other}"
            )
        if self.command in _WITH_RUN_FOLDER and not self.workdir:
            raise UserError("a run needs a folder: add --workdir RUN to the command")

    def mounts(self, given: Mapping[str, str], schemes: Sequence[str]) -> list[Mount]:
        """Returns the target's own mounts, and one for every other bucket that the command names."""
        if nameless := [word for word in self.words if _NAMELESS.search(word)]:
            raise UserError(f"{nameless[0]} names no bucket; write gs://BUCKET/PATH")
        mounts = [_mount(path, url) for path, url in given.items()]
        for word in self.words:
            # Searched again after each new mount, because one word may name several buckets.
            while found := _BUCKET.search(_with_mounts(word, mounts)):
                mounts.append(Mount(f"/mnt/{found[1]}/{found[2]}", found[1], found[2]))
        for mount in mounts:
            _check_mount(mount, schemes)
        # Slurm has no schemes: its machines share a filesystem, and the run folder lies there.
        if schemes and self.command in _WITH_RUN_FOLDER:
            self._check_workdir_lasts(mounts)
        return mounts

    def _check_workdir_lasts(self, mounts: Sequence[Mount]) -> None:
        workdir = _with_mounts(str(self.workdir), mounts)
        # Mounts of S3 neither append to a file nor rename a folder, which is how checkpoints are committed.
        if not any(workdir.startswith(f"{mount.path}/") and mount.scheme == "gs" for mount in mounts):
            if any(workdir == mount.path for mount in mounts):
                raise UserError(
                    f"--workdir {self.workdir} is a whole bucket; name a folder in it, such as {self.name}"
                )
            raise UserError(
                f"--workdir {self.workdir} is in no mounted bucket, and the machines come and go with their "
                f"disks; give a folder such as gs://BUCKET/runs/{self.name}"
            )

    def line(self, mounts: Sequence[Mount], config: str | None = None, flags: str = "") -> str:
        """Returns the shell line that runs it on a host: buckets as folders, its config file at `config`."""
        words = [_with_mounts(word, mounts) for word in self.words]
        if config is not None and self.config is not None:
            # The suffix holds the variants, as in file.py:variant, and must follow the file to its new place.
            words[words.index(self.config)] = config + parse_name(self.config).suffix
        return " ".join(["ivjax launch worker", shlex.join(words), *([flags] if flags else [])])


def _check_mount(mount: Mount, schemes: Sequence[str]) -> None:
    if not _BUCKET_NAME.fullmatch(mount.bucket):
        raise UserError(f"{mount.url}: no bucket is called {mount.bucket!r}; put the name of yours there")
    if mount.scheme not in schemes:
        can = " and ".join(f"{scheme}://" for scheme in schemes) or "no bucket"
        raise UserError(
            f"{mount.url}: this kind of target mounts {can}; put the files where its machines see them"
        )


def _mount(path: str, url: str) -> Mount:
    found = re.fullmatch(rf"{_BUCKET.pattern}(?:/(.*?))?/?", url)
    if not found or not path.startswith("/"):
        raise UserError(
            f'mounts: "{path}" = "{url}"; write a folder from the root and a bucket, as in '
            '"/mnt/data" = "gs://BUCKET/shards"'
        )
    return Mount(path.rstrip("/"), found[1], found[2], found[3] or "")


def _with_mounts(word: str, mounts: Sequence[Mount]) -> str:
    """Returns a word in which mounted addresses are folders; the longest address is replaced first."""
    # The address of a bucket is a prefix of the address of its folders, which may be mounted elsewhere.
    for mount in sorted(mounts, key=lambda mount: -len(mount.url)):
        # The look-ahead keeps gs://data from matching the beginning of gs://data-2.
        word = re.sub(rf"{re.escape(mount.url)}(?![\w.-])", mount.path, word)
    return word
