"""Models compiled for one batch size, the rows of a batch split over the devices of a mesh."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ivjax.evals.hearing import Hearing, unread_rows
from ivjax.evals.hosts import hosts_of
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.ops.cut import Params
from ivjax.ops.layout import ACTIVATION_AXES, batch_spec
from ivjax.train.mesh import build_mesh
from ivjax.train.sharding import replicate

# (parameters, rows) -> an array, or some, with as many rows; rows are an array too, or some.
Function = Callable[[Params, Any], Any]


class ClipModel:
    """A ClipEncoder of a pure function.

    Attributes:
        hearing: what of their sound it reads (None: nothing).
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
        hearing: Hearing | None = None,
    ):
        """Takes `function` of parameters and clips (B, T, H, W, 3) uint8, which gives vectors (B, D).

        With `hearing` clips are their filter banks (B, frames, bins), or pictures and filter banks.
        The same function must come for the same model, so that it is compiled once in a process. `batch` is
        rounded up to what the mesh divides. With `small_steps` a batch of fewer clips is filled up to a power
        of two only: a single clip does not cost a whole batch, and some more shapes are compiled.
        """
        self.frames, self.image, self.hearing = frames, image, hearing
        self._ways = ways = math.prod(mesh.shape[axis] for axis in ACTIVATION_AXES["batch"])
        self._batch = -(-batch // ways) * ways
        self._small_steps = small_steps
        self._mesh = mesh
        self._params = placed(params, mesh)
        self._function = function
        self.hosts = hosts_of(mesh, self._batch)
        self.rows = self._batch // self.hosts.count
        # Only traced: a wrong model fails here, before any clip is decoded.
        self.width: int = self.shape_of(function)[-1]

    def shape_of(self, function: Function) -> tuple[int, ...]:
        """Returns the shape of what a function of clips makes of each of them."""
        clips = unread_rows(self._batch, self.frames, self.image, self.hearing)
        with jax.set_mesh(self._mesh):
            found: tuple[int, ...] = jax.eval_shape(function, self._params, clips).shape[1:]
        return found

    def video(self, clips: Any) -> np.ndarray:
        """Returns (n, D) float32 for clips of this process, (n, T, H, W, 3) uint8 or what is heard of them.

        With several processes all of them must call it, also one that has no clips left.
        """
        return self.on_own(self._function, clips)

    def on_own(self, function: Function, rows: Any) -> Any:
        """Returns what a function makes of this process's rows: an array, or a tuple of them; float32."""
        found = []
        split = NamedSharding(self._mesh, batch_spec())

        def placed_rows(full: np.ndarray) -> jax.Array:
            shape = (len(full) * self.hosts.count, *full.shape[1:])
            return jax.make_array_from_process_local_data(split, full, shape)

        # At least once: a process without clips must still join the collectives of the others.
        for start in range(0, max(_count(rows), 1), self.rows):
            part = _part(rows, start, self.rows)
            count = _count(part)
            # Filled up, because every other shape is compiled anew.
            batch = jax.tree.map(placed_rows, _filled_up(part, self._filled(count)))
            made = self._called(function, batch, split)
            found.append(jax.tree.map(lambda array, count=count: _own_rows(array)[:count], made))
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

    def on_shared(self, function: Function, rows: Any) -> np.ndarray:
        """Returns in every process what a function makes of rows that every process has, float32."""
        found = []
        split, whole = NamedSharding(self._mesh, batch_spec()), replicate(self._mesh)

        def placed_rows(full: np.ndarray) -> jax.Array:
            # Every process has all rows; the way of `on_own` would take them for its share alone.
            return jax.make_array_from_callback(full.shape, split, full.__getitem__)

        for start in range(0, _count(rows), self._batch):
            part = _part(rows, start, self._batch)
            batch = jax.tree.map(placed_rows, _filled_up(part, self._batch))
            found.append(np.asarray(self._called(function, batch, whole), np.float32)[: _count(part)])
        return np.concatenate(found)

    @property
    def batch(self) -> int:
        """Rows of all processes that are computed at a time."""
        return self._batch

    def _called(self, function: Function, batch: Any, out: NamedSharding) -> jax.Array:
        with jax.set_mesh(self._mesh):
            return _jitted(function, out)(self._params, batch)


def _count(rows: Any) -> int:
    return len(jax.tree.leaves(rows)[0])


def _part(rows: Any, start: int, count: int) -> Any:
    return jax.tree.map(lambda array: array[start : start + count], rows)


def _filled_up(rows: Any, count: int) -> Any:
    """Rows, and zeros behind them, `count` in all."""

    def filled(array: np.ndarray) -> np.ndarray:
        full = np.zeros((count, *array.shape[1:]), array.dtype)
        full[: len(array)] = array
        return full

    return jax.tree.map(filled, rows)


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
