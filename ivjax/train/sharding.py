"""The one table that says where every parameter lives; optimizer state and EMA follow it."""

import math
import re
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ivjax.errors import UserError
from ivjax.ops.trees import map_with_path, paths_of

Axes = tuple[str | None, ...]

# (pattern of the end of a parameter's path, mesh axis of each dimension). First match wins.
# Stacked layers lead with None. Kernels are split over fsdp on one side and tensor on the other.
TABLE: tuple[tuple[str, Axes], ...] = (
    (r"blocks/attn/qkv/kernel", (None, None, "fsdp", "tensor")),
    (r"blocks/attn/proj/kernel", (None, "tensor", "fsdp")),
    (r"blocks/mlp/fc1/kernel", (None, "fsdp", "tensor")),
    (r"blocks/mlp/fc1/bias", (None, "tensor")),
    (r"blocks/mlp/fc2/kernel", (None, "tensor", "fsdp")),
    (r"patch_embed/kernel", (None, None, None, None, "fsdp")),
    (r"\w*pos_embed/(table|spatial|temporal|cls)", (None, None, "fsdp")),
    (r"clip_projector/[qkv]/kernel", ("fsdp", "tensor")),
    (r"clip_projector/proj/kernel", ("tensor", "fsdp")),
    (r"(clip|mae)_decoder/(head|fc1|fc2)/kernel", (None, "fsdp", "tensor")),
    (r"final_clip_decoder/(head|fc1|fc2)/kernel", ("fsdp", "tensor")),
    (r"(vision|text)/proj/kernel", ("fsdp", "tensor")),
    (r"(extra_mlp/fc[12]|down|head)/kernel", ("fsdp", "tensor")),
    (r"(word|place|spatial)_embed", (None, "fsdp")),
    (r"temporal_embed", (None, None, "fsdp")),
    (r"encoder_to_decoder/kernel", ("fsdp", "tensor")),
    (r"pos_embed", (None, None, "fsdp")),
    (r"(q_bias|v_bias|mask_token)", ()),
    (r"(.*/)?(scale|bias|gamma|cls_token|temperature)", ()),
    (r"down_norm/(mean|variance)", ()),
    (r"(.*/)?(step|skipped|count)", ()),
)


def spec_of(path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """The spec of one leaf. A dimension that its axis does not divide stays whole."""
    axes = _row(path, shape)
    split = [
        axis if axis and mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(axes, shape, strict=False)
    ]
    while split and split[-1] is None:
        split.pop()
    return PartitionSpec(*split)


def _row(path: str, shape: tuple[int, ...]) -> Axes:
    matches = ((pattern, axes) for pattern, axes in TABLE if re.search(rf"(^|/){pattern}$", path))
    pattern, axes = next(matches, (None, ()))
    if pattern is None:
        raise UserError(f"no row of the sharding table matches parameter {path}; add one to TABLE")
    if len(axes) > len(shape):
        raise UserError(f"sharding row {pattern!r} names {len(axes)} axes, but {path} has shape {shape}")
    return axes


def undivided(tree: Any, mesh: Mesh) -> Iterator[tuple[str, int, str]]:
    """Leaves with a dimension that the table would split and its axis does not divide: path, size, axis."""
    for path, leaf in paths_of(tree):
        for axis, size in zip(_row(path, leaf.shape), leaf.shape, strict=False):
            if axis and size % mesh.shape[axis]:
                yield path, size, axis


def shardings_of(tree: Any, mesh: Mesh) -> Any:
    """A NamedSharding for every leaf (arrays or shapes) of a state."""
    return map_with_path(lambda path, leaf: NamedSharding(mesh, spec_of(path, leaf.shape, mesh)), tree)


def describe(state: Any, mesh: Mesh) -> Iterator[str]:
    """The resolved table: shape, spec and bytes per device of every parameter, then of what follows them."""
    sums: dict[str, int] = {}
    for path, leaf in paths_of(state):
        spec = spec_of(path, leaf.shape, mesh)
        size = leaf.size * leaf.dtype.itemsize // math.prod(mesh.shape[axis] for axis in spec if axis)
        kind, _, name = path.partition("/")
        sums[kind] = sums.get(kind, 0) + size
        if kind == "params":
            shape = "x".join(map(str, leaf.shape)) or "scalar"
            yield f"{name:<50} {shape:>16}  {_text(spec):<24} {_mebibytes(size)}"
    axes = ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
    yield f"bytes per device on mesh {axes}:"
    for kind, size in [*sums.items(), ("all", sum(sums.values()))]:
        yield f"  {kind:<12} {_mebibytes(size)}"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:10.3f} MiB"


def _text(spec: PartitionSpec) -> str:
    return ", ".join(str(axis) if axis else "-" for axis in spec) or "replicated"


def replicate(mesh: Mesh) -> NamedSharding:
    """The sharding of a value that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def abstract(tree: Any, shardings: Any) -> Any:
    """Shapes of `tree` that carry `shardings`: what a restore aims at."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)
