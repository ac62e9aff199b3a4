"""Published peaks of devices by kind, and the memory that they have used."""

import resource
import sys

import jax

from ivjax.train.chips import chip_of_kind


def peak_flops(kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of a device kind, or None where no data sheet names it."""
    chip = chip_of_kind(kind)
    return None if chip is None or chip.platform == "cpu" else chip.flops


def peak_memory() -> int:
    """Most bytes in use at once so far: on the first local device, or by this process on a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    # On a CPU jax has no statistics, and the process's own peak is the nearest thing.
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    # ru_maxrss counts kibibytes on Linux and bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
