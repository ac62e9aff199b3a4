"""A decode process: takes clip numbers from a pipe, and puts examples into memory that its parent shares.

It imports neither jax nor grain. A clip that makes the decoder crash or hang ends this process alone.
"""

import mmap
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

from ivjax.data_pipelines.child import serve
from ivjax.data_pipelines.fields.field import ArraySpec
from ivjax.data_pipelines.load.batch_rows import BatchRow, fill_row
from ivjax.data_pipelines.load.examples import LeftOut, Maker
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.frame_cache import FrameCache
from ivjax.data_pipelines.video.shared_memory import aligned
from ivjax.errors import UserError


def views(memory: mmap.mmap, spec: Mapping[str, ArraySpec]) -> dict[str, np.ndarray]:
    """Returns the arrays of an example as views of shared memory; no two share a cache line."""
    arrays, offset = {}, 0
    for name, (shape, dtype) in spec.items():
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(memory, dtype, count, offset).reshape(shape)
        offset += aligned(count * np.dtype(dtype).itemsize)
    return arrays


def room(spec: Mapping[str, ArraySpec]) -> int:
    """Returns the bytes that `views` needs."""
    sizes = (int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in spec.values())
    # At least one byte, because an empty mapping is an error.
    return max(sum(map(aligned, sizes)), 1)


# The error of a broken clip or None, the parts of the example that are left out, and the seconds that it
# took. A plain tuple, because the module of a class would be __main__ in the worker and another one in its
# parent.
Answer = tuple[ClipError | UserError | None, tuple[LeftOut, ...], float]


def prepare(maker: Maker, memory: int, cache: int | None = None) -> Callable[[tuple[int, int]], Answer]:
    """Returns the function that makes example (index, number) and puts it into memory.

    `memory` and `cache` are the descriptors of the example's memory and of decoded frames.
    """
    if cache is not None:
        maker.cache = FrameCache(cache, maker.clips)
    slot = views(mmap.mmap(memory, room(maker.spec)), maker.spec)

    def answer(place: tuple[int, int]) -> Answer:
        started = time.perf_counter()
        return *_fill(maker, slot, *place), time.perf_counter() - started

    return answer


def _fill(
    maker: Maker, slot: BatchRow, index: int, number: int
) -> tuple[ClipError | UserError | None, tuple[LeftOut, ...]]:
    """Fills the slot; returns the error of a broken clip, and what is left out."""
    try:
        example = maker.make(index, number)
        fill_row(slot, example, index, number)
    # Returned and not raised: an exception would end the process, which takes a second to start.
    except (ClipError, UserError) as error:
        return error, ()
    return None, example.left_out


if __name__ == "__main__":
    pipe, *files = map(int, sys.argv[1:])
    serve(pipe, lambda maker: prepare(maker, *files))
