"""Figures of accelerators, one row per kind: compute, memory, links, and the hosts around them.

Everything is per *jax device*, as a program compiled for the chip sees it: one device per chip, but two on
tpu7x, where a device gets half of the chip's compute, memory and links. A v4 chip is one device too, as in
a running job (the compiler's own default would split it into its two cores, each with half of the memory).
"""

from dataclasses import dataclass
from typing import Literal

GIB = 1024**3


@dataclass(frozen=True)
class Chip:
    """One kind of accelerator; sizes in bytes, rates per second, bandwidths in one direction."""

    name: str
    platform: Literal["tpu", "gpu", "cpu"]
    kind: str
    """The `device_kind` of jax; for NVIDIA the beginning of that."""
    flops: float
    """Dense bfloat16 FLOP/s."""
    memory: int
    usable_memory: int
    """Bytes that one program may fill: the rest is the compiler's, or outside of jax's memory pool."""
    memory_bandwidth: float
    link_bandwidth: float
    """TPU: one link to one neighbour (two per torus dimension). GPU: all NVLinks of a device together."""
    torus: int
    """Dimensions of the torus of links; 0 where a switch joins every device with every other."""
    domain: int
    """Most devices that the links can join: a pod, or the GPUs of one host."""
    network_bandwidth: float
    """From a whole host into the data-centre network."""
    devices_per_host: int
    cpus_per_host: int
    host_memory: int
    devices_per_chip: int = 1


def _tpu(
    name: str,
    kind: str,
    tflops: float,
    memory: float,
    usable: float,
    bandwidth: float,
    link: float,
    torus: int,
    pod: int,
    network: float,
    cpus: int,
    host: int,
    cores: int = 1,
) -> Chip:
    """From data-sheet figures of a chip (GiB, GB/s, network in Gb/s) and of a machine with four (CPUs, GB).

    `usable` is GiB per device; `cores` is how many devices jax sees in a chip.
    """
    return Chip(
        name=name,
        platform="tpu",
        kind=kind,
        flops=tflops * 1e12 / cores,
        memory=int(memory * GIB) // cores,
        usable_memory=int(usable * GIB),
        memory_bandwidth=bandwidth * 1e9 / cores,
        link_bandwidth=link * 1e9 / cores,
        torus=torus,
        domain=pod * cores,
        network_bandwidth=4 * network * 1e9 / 8,
        devices_per_host=4 * cores,
        cpus_per_host=cpus,
        host_memory=host * 10**9,
        devices_per_chip=cores,
    )


def _gpu(
    name: str, kind: str, tflops: float, memory: int, bandwidth: float, link: float, network: float, cpus: int
) -> Chip:
    """From figures of a GPU (bytes, GB/s, its network card in Gb/s) and of a machine with eight (CPUs)."""
    return Chip(
        name=name,
        platform="gpu",
        kind=kind,
        flops=tflops * 1e12,
        memory=memory,
        # The share that jax takes unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
        usable_memory=memory * 3 // 4,
        memory_bandwidth=bandwidth * 1e9,
        link_bandwidth=link * 1e9,
        torus=0,
        domain=8,
        network_bandwidth=8 * network * 1e9 / 8,
        devices_per_host=8,
        cpus_per_host=cpus,
        host_memory=2048 * GIB,
    )


# TPU: cloud.google.com/tpu/docs (v4, v5e, v5p, v6e, tpu7x) and the 4-chip machine types; usable memory is the
# limit that libtpu 0.0.42 names when a program is too large (v5p: 95.74 GiB, data sheet "95"); v4's link
# follows from the bisection of its pod, and for its network no figure was found: v5p's stands in.
# GPU: data sheets of NVIDIA and of its DGX machines; bytes as in openxla/xla,
# xla/backends/gpu/target_config/specs. CPU: the order of magnitude of one core of a server, so that a
# rehearsal on `cpu:8` has figures.
CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        # TFLOP/s, GiB, usable GiB, GB/s, GB/s of a link, torus, pod, Gb/s, CPUs, GB
        _tpu("v4", "TPU v4", 275, 32, 30.75, 1200, 50, 3, 4096, 50, 240, 407),
        _tpu("v5e", "TPU v5 lite", 197, 16, 15.75, 819, 50, 2, 256, 25, 112, 192),
        _tpu("v5p", "TPU v5", 459, 96, 95.74, 2765, 100, 3, 8960, 50, 208, 448),
        _tpu("v6e", "TPU v6 lite", 918, 32, 31.25, 1638, 100, 2, 256, 100, 180, 720),
        _tpu("tpu7x", "TPU7x", 2307, 192, 94.75, 7380, 100, 3, 9216, 100, 224, 960, cores=2),
        # TFLOP/s, bytes, GB/s, GB/s of NVLink, Gb/s, CPUs
        _gpu("a100", "NVIDIA A100", 312, 85_100_068_864, 2039, 300, 200, 256),
        _gpu("h100", "NVIDIA H100", 989, 84_942_979_072, 3352, 450, 400, 224),
        _gpu("h200", "NVIDIA H200", 989, 151_397_597_184, 4800, 450, 400, 224),
        Chip("cpu", "cpu", "cpu", 1e11, 4 * GIB, 4 * GIB, 1e10, 1e10, 0, 512, 1e9, 8, 8, 32 * GIB),
    )
}

# Other spellings of device kinds, as some versions of the runtime print them.
_ALIASES = {"TPU v5e": "v5e", "TPU v5p": "v5p", "TPU v6e": "v6e"}


def chip_of_kind(device_kind: str) -> Chip | None:
    """The chip that jax calls `device_kind`, for example "TPU v5 lite" or "NVIDIA H200"; None if unknown."""
    if device_kind in _ALIASES:
        return CHIPS[_ALIASES[device_kind]]
    for chip in CHIPS.values():
        if device_kind == chip.kind or (chip.platform == "gpu" and device_kind.startswith(chip.kind)):
            return chip
    return None
