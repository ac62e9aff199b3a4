"""The layout of activations on the mesh: the few named constraints that model code places."""

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar

import jax
from jax.sharding import PartitionSpec

# What an activation axis is called in model code, and the mesh axes that may split it.
ACTIVATION_AXES: dict[str, tuple[str, ...]] = {
    # fsdp splits the clips as well as the parameters: its devices work on different clips, and gather the
    # parameters of a layer when they need them.
    "batch": ("data", "fsdp"),
    "tokens": ("context",),
    "heads": ("tensor",),
}

# The same where rows are the clips of long videos: `context` splits the clips, and their tokens are whole.
_CLIP_AXES = {**ACTIVATION_AXES, "batch": ("data", "fsdp", "context"), "tokens": ()}

_axes: ContextVar[dict[str, tuple[str, ...]]] = ContextVar("axes", default=ACTIVATION_AXES)


@contextlib.contextmanager
def clips_over_context() -> Iterator[None]:
    """Within it, the rows that model code names `batch` are clips of videos, which `context` splits too.

    A text of one row may hold a video of many clips, which a tower reads as that many rows.
    """
    token = _axes.set(_CLIP_AXES)
    try:
        yield
    finally:
        _axes.reset(token)


def batch_spec() -> PartitionSpec:
    """The spec of every batch array: rows over `data` and `fsdp`, the rest whole."""
    return PartitionSpec(ACTIVATION_AXES["batch"])


def activation_spec(shape: tuple[int, ...], names: tuple[str | None, ...]) -> PartitionSpec:
    """The spec of an activation on the mesh in context, one name (or None) per axis.

    A dimension that its mesh axes do not divide is split over the first of them that do, or stays whole,
    because jax refuses uneven shards.
    """
    mesh = jax.sharding.get_abstract_mesh()
    spec: list[tuple[str, ...] | None] = []
    for size, name in zip(shape, names, strict=True):
        known = _axes.get()[name] if name else ()
        axes = tuple(axis for axis in known if axis in mesh.axis_names)
        while axes and size % math.prod(mesh.shape[axis] for axis in axes):
            axes = axes[:-1]
        spec.append(axes if math.prod(mesh.shape[axis] for axis in axes) > 1 else None)
    return PartitionSpec(*spec)


def split_over(name: str, size: int) -> bool:
    """Whether the mesh in context splits an activation axis of that name and size."""
    return not one_device() and activation_spec((size,), (name,))[0] is not None


def platform() -> str:
    """Platform of the mesh in context (it may be a topology that is only compiled for), else jax's own."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    name = jax.default_backend() if device is None else device.platform
    return name if name in ("cpu", "tpu") else "gpu"


def one_device() -> bool:
    """Whether there is no mesh in context, or one of a single device."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.empty or mesh.size == 1


def ways(axis: str) -> int:
    """Devices of the mesh in context along an axis."""
    mesh = jax.sharding.get_abstract_mesh()
    return int(mesh.shape[axis]) if axis in mesh.axis_names else 1


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Pins the layout of activation `x`, one name (or None) per axis; on one device, returns `x`."""
    # jax raises where a constraint finds no mesh, and models have to run without one.
    if one_device():
        return x
    return jax.lax.with_sharding_constraint(x, activation_spec(x.shape, names))


def batch_axes() -> tuple[str, ...]:
    """The axes of the mesh in context that split the rows of a batch; none on one device."""
    mesh = jax.sharding.get_abstract_mesh()
    return tuple(a for a in ACTIVATION_AXES["batch"] if a in mesh.axis_names and mesh.shape[a] > 1)
