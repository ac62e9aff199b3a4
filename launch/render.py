"""What a launch is made of: readable files, and the commands that put them to work."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ivjax import version
from ivjax.errors import UserError
from ivjax.launch.clouds import extra
from ivjax.launch.command import LaunchedCommand
from ivjax.launch.target import Target
from ivjax.plan.topology import Topology


@dataclass(frozen=True)
class ShellCommand:
    """One command of a client; `secret` is a Kubernetes Secret whose variables it reads from this shell."""

    words: tuple[str, ...]
    secret: tuple[str, str, tuple[str, ...]] | None = None

    def __str__(self) -> str:
        return shlex.join(self.words)


@dataclass(frozen=True)
class Rendered:
    """Files of a job's folder by name, the commands that start it from there, and a wheel to build first."""

    name: str
    files: Mapping[str, str]
    steps: tuple[ShellCommand, ...]
    wheel: Path | None = None
    passed: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Placement:
    """What every renderer works from: the job, its name, the accelerators, the folder of the files."""

    job: LaunchedCommand
    name: str
    topology: Topology
    folder: Path

    @property
    def title(self) -> str:
        """One line for the head of a file."""
        return f"{self.name}: {shlex.join(self.job.words)}\n# on {self.topology.name}"

    def wheel(self, target: Target) -> Path | None:
        """The wheel to bring along: the one named, or the one that is to be built into the job's folder."""
        if target.wheel == "build":
            if not (_checkout() / "setup.py").is_file():
                raise UserError(
                    'wheel = "build" needs a checkout of ivjax; name a wheel file, or use pip = "ivjax"'
                )
            return self.folder / f"ivjax-{version.__version__}-py3-none-any.whl"
        if target.wheel and not Path(target.wheel).is_file():
            raise UserError(f"wheel = {target.wheel!r}: there is no such file")
        return Path(target.wheel).absolute() if target.wheel else None

    def requirement(self, target: Target, folder: str) -> str:
        """What pip installs, with the wheel in `folder` of the machine; empty where an image has it all."""
        wheel = self.wheel(target)
        if wheel is not None:
            return f"{folder}/{wheel.name}[{extra(self.topology)}]"
        return target.pip


def _checkout() -> Path:
    return Path(version.__file__).resolve().parent.parent


def build_wheel(file: Path) -> None:
    """Builds the wheel of this checkout into the folder of `file`."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(file.parent)]
    with tempfile.TemporaryDirectory() as scratch:
        # Otherwise setuptools builds inside the checkout, where files deleted since would come along.
        config = Path(scratch) / "setup.cfg"
        config.write_text(f"[build]\nbuild_base = {scratch}\n[egg_info]\negg_base = {scratch}\n")
        environment = os.environ | {"DIST_EXTRA_CONFIG": str(config)}
        done = subprocess.run([*command, str(_checkout())], env=environment, check=False)
    if done.returncode or not file.is_file():
        raise UserError(f"pip could not build {file.name} of {_checkout()}; its messages stand above")


def secret_manifest(name: str, namespace: str, variables: Iterable[str]) -> str:
    """A Kubernetes Secret with variables of this shell; it goes to the client directly, never to a file."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {variable: os.environ[variable] for variable in variables},
    }
    return json.dumps(manifest)


def indented(text: str, spaces: int) -> str:
    """The lines of `text`, each that many spaces in."""
    return "\n".join(" " * spaces + line if line else line for line in text.splitlines())


def quoted(text: str) -> str:
    """A YAML string on one line (a JSON string is one)."""
    return json.dumps(text, ensure_ascii=False)
