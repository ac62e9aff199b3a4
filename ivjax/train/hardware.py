"""What the devices can do: published peaks by device kind, and the memory they have used."""

import resource
import sys

import jax

# Dense bfloat16 TFLOP/s per jax device, from the vendors' data sheets.
_PEAK_TFLOPS = {
    "TPU v4": 275.0,
    "TPU v5 lite": 197.0,
    "TPU v5e": 197.0,
    "TPU v5": 459.0,
    "TPU v5p": 459.0,
    "TPU v6 lite": 918.0,
    "TPU v6e": 918.0,
    "NVIDIA A100": 312.0,
    "NVIDIA H100": 989.0,
    "NVIDIA H200": 989.0,
}


def peak_flops(kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of a device kind, or None where it is not known."""
    exact = _PEAK_TFLOPS.get(kind)
    family = [
        peak for name, peak in _PEAK_TFLOPS.items() if name.startswith("NVIDIA") and kind.startswith(name)
    ]
    peak = exact or (family[0] if family else None)
    return None if peak is None else peak * 1e12


def peak_memory() -> int:
    """Most bytes in use at once so far: on the first local device, or by this process on a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
