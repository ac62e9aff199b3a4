"""A decode process: takes clip numbers from a pipe, leaves examples in memory shared with its parent.

It holds neither jax nor grain, and whatever a clip does to it (a crash, a hang) ends it alone.
"""

import contextlib
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection

import av.logging
import numpy as np

from ivjax.data_pipelines.examples import ArraySpec, ExampleMaker
from ivjax.data_pipelines.records import ClipError
from ivjax.errors import UserError

_ALIGNMENT = 64


def views(memory: mmap.mmap, spec: Mapping[str, ArraySpec]) -> dict[str, np.ndarray]:
    """The arrays of an example inside shared memory."""
    arrays, offset = {}, 0
    for name, (shape, dtype) in spec.items():
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(memory, dtype, count, offset).reshape(shape)
        offset += -(-count * np.dtype(dtype).itemsize // _ALIGNMENT) * _ALIGNMENT
    return arrays


def room(spec: Mapping[str, ArraySpec]) -> int:
    """Bytes that `views` needs."""
    sizes = (int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in spec.values())
    return max(sum(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes), 1)


def main(pipe: int, memory: int) -> None:
    """Serves until the parent closes the pipe."""
    for name in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which then ends us
        signal.signal(name, signal.SIG_IGN)
    av.logging.set_level(av.logging.PANIC)
    threading.Thread(target=_follow_parent, args=(os.getppid(),), daemon=True).start()
    connection = Connection(pipe)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        maker: ExampleMaker = connection.recv()
        slot = views(mmap.mmap(memory, room(maker.spec)), maker.spec)
        connection.send(None)
        while True:
            connection.send(_serve(maker, slot, *connection.recv()))


def _serve(
    maker: ExampleMaker, slot: Mapping[str, np.ndarray], index: int, number: int
) -> ClipError | UserError | None:
    """Fills the slot; returns what was wrong, if anything."""
    try:
        for name, value in maker.make(index, number).items():
            if value.shape != slot[name].shape:
                return UserError(f"{name} comes as {value.shape}, the stage wants {slot[name].shape}")
            slot[name][...] = value
    except (ClipError, UserError) as error:
        return error
    return None


def _follow_parent(parent: int) -> None:
    """Ends this process, even one that hangs in a decoder, when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
