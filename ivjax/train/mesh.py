"""The device mesh: axes data, fsdp, tensor, context, and slices over the data-centre network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from ivjax.errors import UserError
from ivjax.ops.layout import ACTIVATION_AXES, MESH_AXES


@dataclass(frozen=True)
class MeshShape:
    """Devices per axis of one slice; one axis may be -1 and takes what is left.

    data: replicas, each with other clips. fsdp: other clips and a share of every parameter. tensor:
    a share of the heads and hidden units. context: a share of the tokens. slices: groups of devices
    that only the data-centre network joins (TPU slices, processes elsewhere); they multiply `data`.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    context: int = 1
    slices: int = 1

    def resolve(self, devices: int) -> tuple[int, ...]:
        """Sizes per slice in the order of MESH_AXES, checked against the number of devices."""
        sizes = {axis: getattr(self, axis) for axis in MESH_AXES}
        text = " x ".join(f"{axis}={size}" for axis, size in {**sizes, "slices": self.slices}.items())
        free = [axis for axis, size in sizes.items() if size == -1]
        if len(free) > 1 or self.slices < 1 or any(size < 1 for size in sizes.values() if size != -1):
            raise UserError(f"mesh {text}: sizes are at least 1, and at most one may be -1")
        fixed = math.prod(size for size in sizes.values() if size != -1) * self.slices
        if free and devices % fixed == 0:
            sizes[free[0]] = devices // fixed
        elif free:
            raise UserError(
                f"mesh {text} needs a multiple of {fixed} devices and there are {devices} "
                f"({devices} / {fixed} = {devices / fixed:.2f}); change the axes or the devices"
            )
        elif fixed != devices:
            raise UserError(
                f"mesh {text} = {fixed} devices but there are {devices}; "
                "make the product fit, or give one axis -1"
            )
        return tuple(sizes.values())


def build_mesh(shape: MeshShape, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over `devices` (all by default), slices laid out along `data`."""
    devices = jax.devices() if devices is None else devices
    sizes = shape.resolve(len(devices))
    if shape.slices == 1:
        grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    else:
        grid = _over_slices(sizes, shape.slices, devices)
    return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def _over_slices(sizes: tuple[int, ...], slices: int, devices: Sequence[jax.Device]) -> np.ndarray:
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
        raise UserError(
            f"batch={batch} does not divide into {parts} equal parts ({split} x accumulate={accumulate}); "
            f"choose a multiple of {parts}, for example {max(round(batch / parts), 1) * parts}"
        )


def check_context(tokens: int, mesh: Mesh) -> None:
    """Raises if the context axis cannot split the tokens evenly."""
    ways = mesh.shape["context"]
    if tokens % ways:
        raise UserError(
            f"mesh.context={ways} cannot split the {tokens} tokens of a clip evenly ({tokens} / {ways} = "
            f"{tokens / ways:.2f}); choose a divisor, or split over fsdp or tensor"
        )
