"""Options with which XLA compiles tests quickly. Values stay within every tolerance."""

from importlib import metadata

# The first two halve the time to compile. The third compiles a program in one piece: pieces are for idle
# cores, and here each core has a worker. The last saves a quarter more, and jax 0.10 alone knows it.
_QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_parallel_codegen_split_count=1"
)
_QUICK_ON_010 = " --xla_cpu_use_fusion_emitters=false"


def quick_flags(devices: int) -> str:
    """XLA_FLAGS for so many fake devices."""
    known = _QUICK_ON_010 if metadata.version("jax").startswith("0.10.") else ""
    return f"--xla_force_host_platform_device_count={devices} {_QUICK}{known}"
