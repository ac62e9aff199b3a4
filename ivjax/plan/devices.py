"""Devices to compile for that need not be there: TPUs through libtpu, GPUs through the CUDA plugin.

jax is imported inside the functions, so that `prepare_environment` can run before it.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivjax.drafts import locked
from ivjax.errors import UserError
from ivjax.plan.topology import Topology
from ivjax.train.chips import Chip

if TYPE_CHECKING:
    import jax

# Keep libtpu from asking the cloud's metadata server for its machine, and from locking it for one process.
_WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_FAKE_DEVICES = "--xla_force_host_platform_device_count"

# The libtpu that belongs to each jax, as its extra `tpu` pins it.
_LIBTPU = {"0.10": "0.0.42", "0.11": "0.0.48", "0.12": "0.0.50"}

# From openxla/xla, xla/backends/gpu/target_config/specs: multiprocessors, float32 units and bytes of shared
# memory in each, the most that a block may opt into, L2 cache, GHz, compute capability, description.
_GPUS = {
    "a100": (108, 64, 167936, 166912, 41943040, 1.41, 8, "NVIDIA A100-SXM4-80GB"),
    "h100": (132, 128, 233472, 232448, 52428800, 1.98, 9, "NVIDIA H100 80GB HBM3"),
    "h200": (132, 128, 233472, 232448, 52428800, 1.98, 9, "NVIDIA H200 141GB HBM3e"),
}


def prepare_environment(topology: Topology) -> None:
    """Makes jax run on the CPU and libtpu load without a TPU. Call it before jax is first used.

    Never call it in a process that trains on an accelerator.
    """
    # Set and not defaulted: a plan must leave the accelerators of this machine to the jobs that use them.
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:
        # An imported jax has read the variable already.
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    _hide_tpu()
    if topology.chip.platform == "cpu":
        os.environ["XLA_FLAGS"] = _with_devices(os.environ.get("XLA_FLAGS", ""), topology.devices)


def _hide_tpu() -> None:
    for name, value in _WITHOUT_TPU.items():
        # setdefault, so that a user who knows better is heard.
        os.environ.setdefault(name, value)


def _with_devices(flags: str, devices: int) -> str:
    """Returns XLA_FLAGS with at least `devices` fake devices."""
    found = re.search(rf"{_FAKE_DEVICES}=(\d+)", flags)
    if found is None:
        return f"{flags} {_FAKE_DEVICES}={devices}".strip()
    return flags.replace(found[0], f"{_FAKE_DEVICES}={max(devices, int(found[1]))}")


def compile_devices(topology: Topology) -> "list[jax.Device]":
    """Returns devices of the topology that programs can be compiled for; on TPU and GPU they cannot run."""
    make = {"tpu": _tpu_devices, "gpu": _gpu_devices, "cpu": _cpu_devices}[topology.chip.platform]
    devices = make(topology)
    if len(devices) != topology.devices:
        raise UserError(
            f"{topology.name} has {topology.devices} devices and the compiler gives {len(devices)}; "
            "install the version of the compiler that belongs to this jax"
        )
    return devices


def _cpu_devices(topology: Topology) -> "list[jax.Device]":
    import jax

    devices = jax.devices("cpu")
    if len(devices) < topology.devices:
        raise UserError(
            f"{topology.name} needs {topology.devices} devices and this process started jax with "
            f"{len(devices)}; start it again with XLA_FLAGS={_FAKE_DEVICES}={topology.devices}"
        )
    return devices[: topology.devices]


def _tpu_devices(topology: Topology) -> "list[jax.Device]":
    name, shape = topology.chip.name, topology.shape
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(f"compiling for {name} needs libtpu: pip install 'ivjax[plan]'")
    _hide_tpu()
    options: dict[str, Any] = {"topology_name": f"{name}:{'x'.join(map(str, shape))}"}
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    if name == "v4":
        # Megacore makes one device of the two cores of a chip, as jobs on v4 have it; the default is two.
        options["chip_config_name"] = "megacore"
    if topology.devices_per_slice < topology.chip.devices_per_host:
        # A slice below one host, such as v5e:1x1: libtpu assumes full hosts unless it is told.
        options["chips_per_host_bounds"] = [*shape, 1, 1][:3]
    return _described("tpu", options, _libtpu_advice(topology.name))


def _libtpu_advice(wanted: str) -> str:
    jax, libtpu = importlib.metadata.version("jax"), _version("libtpu")
    # Each jax pins one libtpu; with another one the topology may be missing for no visible reason.
    pin = _LIBTPU.get(".".join(jax.split(".")[:2]))
    if pin is None:
        return f"libtpu {libtpu} gives no {wanted}; jax {jax} names its own: pip install 'jax[tpu]=={jax}'"
    if not libtpu.startswith(pin + "."):
        return f"libtpu {libtpu} gives no {wanted}; jax {jax} needs pip install 'libtpu=={pin}.*'"
    return f"libtpu {libtpu} gives no {wanted}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"


def _gpu_devices(topology: Topology) -> "list[jax.Device]":
    version = importlib.metadata.version("jax")
    packages = f"jax-cuda12-plugin=={version} jax-cuda12-pjrt=={version} nvidia-cuda-nvcc-cu12"
    install = f"pip install --no-deps {packages}"
    if importlib.util.find_spec("jax_cuda12_plugin") is None:
        raise UserError(f"compiling for {topology.chip.name} needs the CUDA plugin: {install}")
    hosts = topology.hosts // topology.slices
    options = {
        "topology_name": "",
        # The CUDA plugin wants slices x hosts x devices of a host, and no name.
        "topology": f"{topology.slices}x{hosts}x{topology.devices_per_slice // hosts}",
        # Without a description of the GPU the plugin looks for one, and says "No visible GPU devices".
        "target_config": _target_config(topology.chip),
    }
    return _described("cuda", options, f"the CUDA plugin gives no {topology.name}; {install}")


def _target_config(chip: Chip) -> str:
    """Returns the GPU as text of XLA's message GpuTargetConfigProto."""
    cores, units, shared, block, cache, clock, capability, description = _GPUS[chip.name]
    return f"""
    gpu_device_info {{
      threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
      block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
      registers_per_core_limit: 65536 registers_per_block_limit: 65536 shared_memory_per_block: 49152
      core_count: {cores} fpus_per_core: {units} clock_rate_ghz: {clock} l2_cache_size: {cache}
      shared_memory_per_core: {shared} shared_memory_per_block_optin: {block}
      device_memory_size: {chip.memory} memory_bandwidth: {int(chip.memory_bandwidth)}
      cuda_compute_capability {{ major: {capability} minor: 0 }}
    }}
    platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
    device_description_str: "{description}"
    """


def _described(platform: str, options: dict[str, Any], advice: str) -> "list[jax.Device]":
    """Returns the devices that the platform's plugin describes, or raises a UserError with its reason."""
    from jax.experimental import topologies

    try:
        with _quiet():
            return list(topologies.get_topology_desc(platform=platform, **options).devices)
    except (RuntimeError, ValueError, NotImplementedError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{advice} ({reason})") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops what C++ code writes to stderr, because the plugins complain that they find no hardware."""
    sys.stderr.flush()
    # File descriptor 2 and not sys.stderr, which C++ code does not know.
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


@contextlib.contextmanager
def libtpu_lock() -> Iterator[None]:
    """Lets one of this user's processes on the machine compile at a time; the others say that they wait.

    A compile for a pod takes gigabytes, so several at once could fill the memory of the machine. The lock
    ends with its process. It must not be nested.
    """
    # One file per user: in a shared temporary folder, another user's file could not be opened.
    path = Path(tempfile.gettempdir()) / f"ivjax-libtpu-{os.getuid()}.lock"
    with locked(path, on_wait=_say_waiting, mode=0o600):
        yield


def _say_waiting() -> None:
    print("waiting for another process that compiles", file=sys.stderr, flush=True)
