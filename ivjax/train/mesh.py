"""The device mesh: axes data, fsdp, tensor, context, and slices over the data-centre network."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from ivjax.errors import UserError
from ivjax.experiment.mesh_shape import MESH_AXES, MeshShape
from ivjax.ops.layout import ACTIVATION_AXES


def build_mesh(shape: MeshShape, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over `devices` (all by default), slices laid out along `data`."""
    devices = jax.devices() if devices is None else devices
    sizes = shape.resolve(len(devices))
    if shape.slices == 1:
        # Without splitting physical axes of a TPU torus most mesh shapes would be refused.
        grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    else:
        grid = _over_slices(sizes, shape.slices, devices)
    # Auto, although jax.make_mesh defaults to Explicit: with explicit axes products of two split dimensions
    # are errors, and a constraint is only an assertion.
    return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def _over_slices(sizes: tuple[int, ...], slices: int, devices: Sequence[jax.Device]) -> np.ndarray:
    # Only TPU devices know their slice. Elsewhere a process stands for what fast links join.
    by_process = devices[0].platform != "tpu"
    try:
        return mesh_utils.create_hybrid_device_mesh(
            sizes,
            (slices, *[1] * (len(sizes) - 1)),
            devices,
            process_is_granule=by_process,
            allow_split_physical_axes=True,
        )
    except ValueError as error:
        unit = "processes" if by_process else "slices"
        raise UserError(f"mesh slices={slices} does not match the {unit} of these devices: {error}") from None


def check_batch(batch: int, accumulate: int, mesh: Mesh) -> None:
    """Raises unless the global batch divides over the mesh and the accumulation."""
    ways = {axis: mesh.shape[axis] for axis in ACTIVATION_AXES["batch"]}
    parts = math.prod(ways.values()) * accumulate
    if batch < 1 or batch % parts:
        split = " x ".join(f"{axis}={size}" for axis, size in ways.items())
        nearest = max(round(batch / parts), 1) * parts
        raise UserError(
            f"batch={batch} does not divide into {parts} equal parts ({split} x accumulate={accumulate}); "
            f"choose a multiple of {parts}, for example {nearest}, or fewer parts"
        )


def check_context(tokens: int, mesh: Mesh) -> None:
    """Raises if the context axis cannot split the tokens evenly."""
    ways = mesh.shape["context"]
    if tokens % ways:
        raise UserError(
            f"mesh.context={ways} cannot split the {tokens} tokens of a clip evenly ({tokens} / {ways} = "
            f"{tokens / ways:.2f}); choose a divisor, or split over fsdp or tensor"
        )
