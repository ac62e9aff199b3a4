"""The shape of the device mesh: axes data, fsdp, tensor, context, and slices over the data-centre network."""

import math
from dataclasses import dataclass
from typing import Annotated

from ivjax.errors import UserError
from ivjax.experiment.ranges import Count, Within

# data leads, because slices are laid out along the first axis.
MESH_AXES = ("data", "fsdp", "tensor", "context")

# The size of a mesh axis: at least 1, or -1 for what is left; `resolve` checks all axes in one sentence.
AxisSize = Annotated[int, Within(-1)]


@dataclass(frozen=True)
class MeshShape:
    """Devices per axis of one slice; one axis may be -1 and takes what is left.

    Attributes:
        data: replicas, each with other clips.
        fsdp: other clips and a share of every parameter.
        tensor: a share of the heads and hidden units.
        context: a share of the tokens.
        slices: groups of devices that only the data-centre network joins (TPU slices, processes
            elsewhere); they multiply `data`.
    """

    data: AxisSize = -1
    fsdp: AxisSize = 1
    tensor: AxisSize = 1
    context: AxisSize = 1
    slices: Count = 1

    def resolve(self, devices: int) -> tuple[int, ...]:
        """Returns the sizes per slice in the order of MESH_AXES, checked against the number of devices."""
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
