"""Targets: where a job runs. One frozen dataclass per kind of target, read from a TOML file."""

import dataclasses
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ivjax import version
from ivjax.errors import UserError, nearest

# Kubernetes allows 63 characters, and the pods of a JobSet append the replicated job, two indices and a tail.
_LONGEST_NAME = 40


# In a job file it would end a comment, a quoted value or a line of YAML.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Words of the example that stand for names of the user's own.
_PLACEHOLDER = re.compile(
    r"\b(PROJECT|CLUSTER|REGISTRY|ACCOUNT|BUCKET|HOST|PARTITION|RESERVATION|QOS|FEATURE)\b"
)
_PIP = "instead: what pip is to install, such as the address of a wheel (ivjax is in no package index)"
_WHEEL = f"@ https://HOST/ivjax-{version.__version__}-py3-none-any.whl"


def _option(about: str, default: Any = dataclasses.MISSING, example: Any = None, chosen: bool = False) -> Any:
    """Returns a field, with the description and the value that `--example` shows for it.

    A `chosen` one is set in the example although it has a default.
    """
    metadata = {"about": about, "example": default if example is None else example, "chosen": chosen}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Target:
    """The options that all kinds of target share. One of `image`, `wheel` and `pip` brings ivjax there."""

    topology: str = _option("chips, as in ivjax plan --topology", example="v5e:4x4")
    name: str = _option("the job's name; by default that of the config", "", "stage1-1b")
    slices: int = _option("slices of that topology, joined over the data-centre network", 1)
    wheel: str = _option('a wheel to install, or "build" for one of this checkout', "", "build", chosen=True)
    image: str = _option("instead: a container image that holds ivjax", "", "REGISTRY/ivjax:1")
    pip: str = _option(_PIP, "", f"ivjax[tpu] {_WHEEL}")
    setup: str = _option("shell lines to run before the command", "", "ulimit -n 65536")
    env: Mapping[str, str] = _option(
        'environment; "$NAME" is taken from the shell that launches, and is never written to a file',
        {},
        {"JAX_LOGGING_LEVEL": "INFO", "HTTPS_PROXY": "$HTTPS_PROXY"},
    )
    mounts: Mapping[str, str] = _option(
        "buckets by the folder they appear as; a gs:// path in the command is mounted by itself",
        {},
        {"/mnt/data": "gs://BUCKET/shards"},
    )
    restarts: int = _option(
        "restarts after failures; preemptions do not count, if they can be told apart", 20
    )
    grace: int = _option("seconds between SIGTERM and the end, to save in", 300)

    def __post_init__(self) -> None:
        given = [key for key in ("image", "wheel", "pip") if getattr(self, key)]
        if len(given) > 1:
            raise UserError(f"the target gives {' and '.join(given)}; give one of them")
        if self.name:
            check_name(self.name)
        for key, value in self.env.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII):
                raise UserError(f"env.{key}: an environment variable is named by letters, digits and _")
            if value.startswith("$") and value != f"${key}":
                raise UserError(
                    f"env.{key} = {value!r}: of the shell that launches, only ${key} can be taken as {key}"
                )
        for field in dataclasses.fields(self):
            _check_lines(field.name, getattr(self, field.name))
        for key, least in (("slices", 1), ("restarts", 0), ("grace", 1)):
            if getattr(self, key) < least:
                raise UserError(f"{key} = {getattr(self, key)}; it must be at least {least}")

    @property
    def passed(self) -> tuple[str, ...]:
        """Names of the variables that are taken from the launching shell."""
        return tuple(key for key, value in self.env.items() if value.startswith("$"))

    @property
    def plain(self) -> dict[str, str]:
        """The variables whose values may be written to files."""
        return {key: value for key, value in self.env.items() if not value.startswith("$")}


@dataclass(frozen=True, kw_only=True)
class Slurm(Target):
    """GPU nodes under Slurm, which share a filesystem. Without image, wheel or pip, `setup` brings ivjax."""

    topology: str = _option("GPUs in all, as in ivjax plan --topology", example="h200:64")
    pip: str = _option(_PIP, "", f"ivjax[cuda] {_WHEEL}")
    mounts: Mapping[str, str] = _option("none on Slurm, whose nodes share folders", {}, {})
    partition: str = _option("partition", "", "PARTITION")
    account: str = _option("account", "", "ACCOUNT")
    qos: str = _option("quality of service", "", "QOS")
    constraint: str = _option("node features", "", "FEATURE")
    reservation: str = _option("reservation", "", "RESERVATION")
    time: str = _option("time limit; the job saves before it and queues again", "24:00:00")
    container_mounts: str = _option("shared folders that the image sees", "", "/data:/data,/runs:/runs")
    shared: str = _option(
        "folders that all nodes share; launch warns about paths outside them", "", "/home,/data"
    )
    cpus: int = _option("CPUs of a node; 0: the cluster's default", 0, 96)


@dataclass(frozen=True, kw_only=True)
class TpuVm(Target):
    """TPU VMs, created and deleted with gcloud."""

    topology: str = _option("chips of one slice, as in ivjax plan --topology", example="v5p:4x4x4")
    project: str = _option("Google Cloud project", example="PROJECT")
    zone: str = _option("zone", example="us-east5-a")
    queued: bool = _option("wait in the queue for capacity; spot and several slices always do", False)
    spot: bool = _option("cheaper, may be taken away at any time; made again until the run is done", False)
    reserved: bool = _option("use reserved capacity", False)
    runtime: str = _option("software version of the VM; by default that of the chip", "", "v2-alpha-tpuv5")
    service_account: str = _option(
        "account that may use the buckets", "", "ACCOUNT@PROJECT.iam.gserviceaccount.com"
    )
    network: str = _option("network", "", "default")
    delete_when_done: bool = _option("delete the TPUs after a run that reached its end", True)


@dataclass(frozen=True, kw_only=True)
class Gke(Target):
    """A Kubernetes cluster of Google Cloud that has JobSet installed."""

    topology: str = _option(
        "chips of one slice, or GPUs in all, as in ivjax plan --topology", example="v5p:4x4x4"
    )
    client: Literal["kubectl", "xpk"] = _option("which client submits: kubectl or xpk", "kubectl")
    cluster: str = _option("cluster; needed by xpk only", "", "CLUSTER")
    project: str = _option("project; needed by xpk only", "", "PROJECT")
    zone: str = _option("zone or region; needed by xpk only", "", "us-east5-a")
    namespace: str = _option("namespace", "default")
    queue: str = _option("Kueue's local queue", "", "multislice-queue")
    priority: str = _option("priority class; xpk: very-low, low, medium, high or very-high", "", "medium")
    service_account: str = _option("Kubernetes account that may use the buckets", "", "ACCOUNT")
    accelerator: str = _option(
        "GPU: the node label, where it is not the usual one", "", "nvidia-h100-mega-80gb"
    )
    spot: bool = _option("run on spot nodes", False)
    base_image: str = _option("image to install wheel or pip in", "python:3.12")


@dataclass(frozen=True, kw_only=True)
class SkyPilot(Target):
    """Any cloud that SkyPilot knows, as a managed job that recovers from preemptions."""

    topology: str = _option("GPUs in all, or a TPU slice, as in ivjax plan --topology", example="h200:16")
    pip: str = _option(_PIP, "", f"ivjax[cuda] {_WHEEL}")
    infra: str = _option("cloud[/region[/zone]]; by default the cheapest", "", "gcp/us-central1")
    spot: bool = _option("run on spot machines", False)
    disk: int = _option("disk of each machine in GB; 0: SkyPilot's default", 0, 512)
    runtime: str = _option("TPU: software version; by default that of the chip", "", "v2-alpha-tpuv6e")


KINDS: dict[str, type[Target]] = {"slurm": Slurm, "tpu-vm": TpuVm, "gke": Gke, "skypilot": SkyPilot}


def check_line(name: str, text: str) -> None:
    """Raises if `text` has control characters, line breaks among them, which job files cannot hold."""
    if found := _CONTROL.search(text):
        raise UserError(f"{name} = {text!r} has the control character {found[0]!r}; leave it out")


def _check_lines(name: str, value: Any) -> None:
    if isinstance(value, str):
        # The one value that is written as lines of a script.
        check_line(name, re.sub(r"[\n\t]", "", value) if name == "setup" else value)
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            check_line(f"a name in {name}", key)
            check_line(f"{name}.{key}", entry)


def check_name(name: str) -> str:
    """Returns `name` if clusters accept it as a job's name; raises otherwise."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > _LONGEST_NAME:
        raise UserError(
            f"name = {name!r}: a job is named by at most {_LONGEST_NAME} small letters, digits and hyphens, "
            "beginning with a letter and not ending with a hyphen"
        )
    return name


def read_target(kind: str, file: Path | None, changes: Sequence[tuple[str, str]] = ()) -> Any:
    """Returns the target of a TOML file (or of none) with `changes`, pairs of key or table.key and value."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text("utf-8"))
        except OSError as error:
            raise UserError(f"cannot read the target {file}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"the target {file} is not TOML: {error}") from None
    kinds = typing.get_type_hints(KINDS[kind])
    # Values from the command line come last, so that one file serves many jobs.
    for key, text in changes:
        table, _, entry = key.partition(".")
        if entry:
            values[table] = {**values.get(table, {}), entry: text}
        else:
            values[key] = _from_text(kinds.get(key), key, text)
    for key, value in values.items():
        if key not in kinds:
            raise UserError(f"a {kind} target has no {key!r}{nearest(key, kinds, cutoff=0.5)}")
        _check_type(kinds[key], key, value)
        _check_names(KINDS[kind].__dataclass_fields__[key], value)
    return _made(kind, values)


def _made(kind: str, values: Mapping[str, Any]) -> Any:
    for field in dataclasses.fields(KINDS[kind]):
        if _required(field) and field.name not in values:
            raise UserError(
                f"a {kind} target needs {field.name!r} ({field.metadata['about']}); `ivjax launch {kind} "
                "--example` prints one to start from"
            )
    return KINDS[kind](**values)


def _from_text(kind: Any, key: str, text: str) -> Any:
    """Returns a value given on the command line as its field's type."""
    if kind is bool and text in ("true", "false"):
        return text == "true"
    if kind is int and re.fullmatch(r"-?\d+", text):
        return int(text)
    if typing.get_origin(kind) is not None and typing.get_origin(kind) is not Literal:
        raise UserError(f"{key} is a table; set one of its entries, as in {key}.ENTRY=VALUE")
    return text


def _check_type(kind: Any, key: str, value: Any) -> None:
    if typing.get_origin(kind) is Literal:
        fits, wanted = value in typing.get_args(kind), f"one of {', '.join(typing.get_args(kind))}"
    elif kind in (str, int, bool):
        # Not isinstance, for which true is an integer.
        fits = type(value) is kind
        wanted = {str: "text in quotes", int: "an integer", bool: "true or false"}[kind]
    else:
        fits = isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values())
        wanted = "a table of texts"
    if not fits:
        raise UserError(f"{key} = {value!r}: expected {wanted}")


def _check_names(field: dataclasses.Field[Any], value: Any) -> None:
    """Raises if a word of the example still stands where a name of the user's own belongs."""
    for word in _PLACEHOLDER.findall(str(field.metadata["example"])):
        if re.search(rf"\b{word}\b", str(value)):
            raise UserError(f"{field.name} = {value!r}: {word} stands for a name of yours; put it there")


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def example(kind: str) -> str:
    """Returns a target file to start from: what a launch needs is set, all else is commented out."""
    fields = sorted(dataclasses.fields(KINDS[kind]), key=lambda field: not _is_set(field))
    lines = [f"# A target of `ivjax launch {kind} --target FILE`. Put names of yours for words in capitals."]
    for field in fields:
        mark = "" if _is_set(field) else "# "
        lines += [
            "",
            f"# {field.metadata['about']}",
            f"{mark}{field.name} = {_toml(field.metadata['example'])}",
        ]
    return "\n".join(lines) + "\n"


def _is_set(field: dataclasses.Field[Any]) -> bool:
    """Whether the example sets a key, and does not only show it."""
    return _required(field) or field.metadata["chosen"]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        entries = ", ".join(f'"{key}" = "{entry}"' for key, entry in value.items())
        return f"{{ {entries} }}" if entries else "{}"
    return f'"{value}"' if isinstance(value, str) else str(value)
