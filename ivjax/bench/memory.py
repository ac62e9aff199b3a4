"""Memory that a benchmark may use."""

import os

import jax


def free_memory(device: jax.Device) -> float:
    """Returns the free bytes of a device, or of the machine if it is a CPU."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"] - stats["bytes_in_use"])
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return float(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE"))


def memory_limit(limit_gib: float | None, device: jax.Device) -> float:
    """Returns the bytes that a form may take: what was asked for, or half of what is free."""
    return free_memory(device) / 2 if limit_gib is None else limit_gib * 2**30
