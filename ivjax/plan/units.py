"""How plans write meshes, bytes and times."""

import math
from collections.abc import Mapping


def mesh_text(mesh: Mapping[str, int]) -> str:
    """Returns the axes of a mesh that have more than one device."""
    return " x ".join(f"{axis}={size}" for axis, size in mesh.items() if size > 1) or "one device"


def gib(size: float) -> str:
    """Returns bytes for people, such as 1.25 GiB."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.2f} MiB"


def readable_seconds(seconds: float) -> str:
    """Returns a duration for people, such as 3.2 min."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us" if math.isfinite(seconds) else "never"
