"""The pieces of a launch: readable files, and the client commands that put them to work."""

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
    """One command of a client.

    Attributes:
        words: the command line.
        secret: name, namespace and variables of a Kubernetes Secret that it reads from its standard input;
            None for no secret.
    """

    words: tuple[str, ...]
    secret: tuple[str, str, tuple[str, ...]] | None = None

    def __str__(self) -> str:
        return shlex.join(self.words)


@dataclass(frozen=True)
class Rendered:
    """A rendered launch.

    Attributes:
        name: the job's name.
        files: name -> text of each file of the job's folder.
        steps: the commands that start it.
        wheel: a wheel to build first; None for none.
        passed: environment variables that must be set in this shell.
    """

    name: str
    files: Mapping[str, str]
    steps: tuple[ShellCommand, ...]
    wheel: Path | None = None
    passed: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Placement:
    """The input of every renderer.

    Attributes:
        job: the command line.
        name: the job's name.
        topology: the accelerators.
        folder: where the files go.
    """

    job: LaunchedCommand
    name: str
    topology: Topology
    folder: Path

    @property
    def title(self) -> str:
        """The comment at the head of each file."""
        return f"{self.name}: {shlex.join(self.job.words)}\n# on {self.topology.name}"

    def wheel(self, target: Target) -> Path | None:
        """Returns the wheel to bring along: a given one, or one to build in the job's folder; else None."""
        if target.wheel == "build":
            if not (_checkout() / "setup.py").is_file():
                raise UserError('wheel = "build" needs a checkout of ivjax; name a wheel file, or an image')
            return self.folder / f"ivjax-{version.__version__}-py3-none-any.whl"
        if target.wheel and not Path(target.wheel).is_file():
            raise UserError(f'wheel = {target.wheel!r}: there is no such file; write its path, or "build"')
        return Path(target.wheel).absolute() if target.wheel else None

    def requirement(self, target: Target, folder: str) -> str:
        """Returns what pip installs, with a wheel in `folder` of the machine; "" if an image has it."""
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
        # Otherwise setuptools builds inside the checkout, and takes along deleted files of a former build.
        config = Path(scratch) / "setup.cfg"
        config.write_text(f"[build]\nbuild_base = {scratch}\n[egg_info]\negg_base = {scratch}\n")
        environment = os.environ | {"DIST_EXTRA_CONFIG": str(config)}
        # --no-deps above: the machines install the dependencies for their own accelerator.
        done = subprocess.run([*command, str(_checkout())], env=environment, check=False)
    if done.returncode or not file.is_file():
        raise UserError(f"pip could not build {file.name} of {_checkout()}; its messages are above")


def secret_manifest(name: str, namespace: str, variables: Iterable[str]) -> str:
    """Returns a Kubernetes Secret with variables of this shell. It goes to kubectl, never to a file."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        # stringData takes plain text; `data` would need base64 of each value.
        "stringData": {variable: os.environ[variable] for variable in variables},
    }
    return json.dumps(manifest)


def indented(text: str, spaces: int) -> str:
    """Returns `text` with each line indented by `spaces`."""
    return "\n".join(" " * spaces + line if line else line for line in text.splitlines())


def quoted(text: str) -> str:
    """Returns a YAML string on one line; every JSON string is one."""
    # Quoted always: YAML reads bare words such as no, on and 1e3 as other types.
    return json.dumps(text, ensure_ascii=False)
