"""Where activations live on the mesh: the few named constraints that model code places."""

import jax
from jax.sharding import PartitionSpec

MESH_AXES = ("data", "fsdp", "tensor", "context")

# What an activation axis is called in model code, and the mesh axes that may split it.
ACTIVATION_AXES: dict[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "tokens": ("context",),
    "heads": ("tensor",),
    "hidden": ("tensor",),
}


def batch_spec() -> PartitionSpec:
    """The spec of every batch array: rows over `data` and `fsdp`, the rest whole."""
    return PartitionSpec(ACTIVATION_AXES["batch"])


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Pins the layout of activation `x`, one name (or None) per axis; without a mesh, returns `x`.

    A dimension that its mesh axes do not divide stays whole, because jax refuses uneven shards.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    spec: list[tuple[str, ...] | None] = []
    for size, name in zip(x.shape, names, strict=True):
        axes = tuple(a for a in ACTIVATION_AXES.get(name or "", ()) if a in mesh.axis_names)
        ways = 1
        for axis in axes:
            ways *= mesh.shape[axis]
        spec.append(axes if ways > 1 and size % ways == 0 else None)
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))
