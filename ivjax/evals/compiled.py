"""Models compiled for one batch size, the rows of a batch split over the devices of a mesh."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ivjax.evals.hosts import hosts_of
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.ops.cut import Params
from ivjax.ops.layout import ACTIVATION_AXES, batch_spec
from ivjax.train.mesh import build_mesh
from ivjax.train.sharding import replicate

Function = Callable[[Params, jax.Array], Any]  # (parameters, rows) -> an array, or some, with as many rows


class ClipModel:
    """A ClipEncoder of a pure function.

    Attributes:
        hosts: which clips of a test this process reads.
        rows: clips of a batch that this process gives.
    """

    def __init__(
        self,
        function: Function,
        params: Params,
        frames: int,
        image: tuple[int, int],
        batch: int,
        mesh: Mesh,
        small_steps: bool = False,
    ):
        """Takes `function` of parameters and clips (B, T, H, W, 3) uint8, which gives vectors (B, D).

        The same function must come for the same model, so that it is compiled once in a process. `batch` is
        rounded up to what the mesh divides. With `small_steps` a batch of fewer clips is filled up to a power
        of two only: a single clip does not cost a whole batch, and some more shapes are compiled.
        """
        self.frames, self.image = frames, image
        self._ways = ways = math.prod(mesh.shape[axis] for axis in ACTIVATION_AXES["batch"])
        self._batch = -(-batch // ways) * ways
        self._small_steps = small_steps
        self._mesh = mesh
        self._params = placed(params, mesh)
        self._function = function
        self.hosts = hosts_of(mesh, self._batch)
        self.rows = self._batch // self.hosts.count
        with jax.set_mesh(mesh):
            clips = jax.ShapeDtypeStruct((self._batch, frames, *image, 3), np.uint8)
            # Only traced: a wrong model fails here, before any clip is decoded.
            self.width: int = jax.eval_shape(function, self._params, clips).shape[-1]

    def video(self, clips: np.ndarray) -> np.ndarray:
        """Returns (n, D) float32 for clips (n, T, H, W, 3) uint8 of this process.

        With several processes all of them must call it, also one that has no clips left.
        """
        return self.on_own(self._function, clips)

    def on_own(self, function: Function, rows: np.ndarray) -> Any:
        """Returns what a function makes of this process's rows: an array, or a tuple of them; float32."""
        found = []
        # At least once: a process without clips must still join the collectives of the others.
        for start in range(0, max(len(rows), 1), self.rows):
            part = rows[start : start + self.rows]
            # Filled up, because every other shape is compiled anew.
            full = np.zeros((self._filled(len(part)), *rows.shape[1:]), rows.dtype)
            full[: len(part)] = part
            split = NamedSharding(self._mesh, batch_spec())
            shape = (len(full) * self.hosts.count, *rows.shape[1:])
            batch = jax.make_array_from_process_local_data(split, full, shape)
            made = self._called(function, batch, split)
            found.append(jax.tree.map(lambda array, count=len(part): _own_rows(array)[:count], made))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *found)

    def _filled(self, count: int) -> int:
        """Returns the rows that a part of a batch is filled up to."""
        # Processes that read different clips would not agree on the shape of their last batches.
        if not self._small_steps or self.hosts.count > 1:
            return self.rows
        filled = self._ways
        while filled < count:
            filled *= 2
        return min(filled, self.rows)

    def on_shared(self, function: Function, rows: np.ndarray) -> np.ndarray:
        """Returns in every process what a function makes of rows that every process has, float32."""
        found = []
        split, whole = NamedSharding(self._mesh, batch_spec()), replicate(self._mesh)
        for start in range(0, len(rows), self._batch):
            part = rows[start : start + self._batch]
            full = np.zeros((self._batch, *rows.shape[1:]), rows.dtype)
            full[: len(part)] = part
            # Every process has all rows; the way of `on_own` would take them for its share alone.
            batch = jax.make_array_from_callback(full.shape, split, full.__getitem__)
            found.append(np.asarray(self._called(function, batch, whole), np.float32)[: len(part)])
        return np.concatenate(found)

    def _called(self, function: Function, batch: jax.Array, out: NamedSharding) -> jax.Array:
        with jax.set_mesh(self._mesh):
            return _jitted(function, out)(self._params, batch)


def local_mesh() -> Mesh:
    """Returns the mesh of this process's devices, each with other clips."""
    return build_mesh(MeshShape(), jax.local_devices())


def placed(params: Params, mesh: Mesh) -> Params:
    """Returns parameters on the devices of a mesh, left as they are if they lie there.

    Others are copied to each device, or, over `fsdp`, spread by their largest dimensions: forward passes
    alone gather them layer by layer, so they need no better split.
    """
    devices = set(mesh.devices.flat)

    def place(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding.device_set == devices:
            return leaf  # a model in training may be too large to be copied whole
        sharding = NamedSharding(mesh, _spread(leaf.shape, mesh.shape["fsdp"]))
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        # device_put cannot place an array on devices of other processes.
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, sharding, value.__getitem__)

    found: Params = jax.tree.map(place, params)
    return found


def _spread(shape: tuple[int, ...], ways: int) -> PartitionSpec:
    """The spec that splits the largest dimension that can be split evenly."""
    size = max((size for size in shape if size % ways == 0), default=1)
    if ways == 1 or size < ways:
        return PartitionSpec()
    return PartitionSpec(*[None] * shape.index(size), "fsdp")


@functools.lru_cache(maxsize=32)  # evals in a training run come again and again with the same functions
def _jitted(function: Function, out: NamedSharding) -> Callable[[Params, jax.Array], jax.Array]:
    return jax.jit(function, out_shardings=out)


def _own_rows(out: jax.Array) -> np.ndarray:
    """The rows of an array that lie on this process's devices, float32."""
    if out.is_fully_addressable:
        return np.asarray(out, np.float32)
    # Devices along tensor and context hold the same rows; any of them will do.
    pieces = {shard.index[0].start or 0: shard.data for shard in out.addressable_shards}
    return np.concatenate([np.asarray(pieces[start], np.float32) for start in sorted(pieces)])
