"""A cache of decoded clips in memory that all decode processes of a loader share.

The memory is one file without a name: a header, an entry for each clip, then the frames. Frames are stored
in the decoder's pixel format (usually 4:2:0), from which crops and resizes start. So what is read from the
cache equals, pixel for pixel, what is decoded anew. No clip is ever evicted: every clip comes once an epoch,
so a clip that makes room for another one would be missed just as often.
"""

import contextlib
import fcntl
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import av
import numpy as np

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import Probe, Video, apply_graph, rgb_graph
from ivjax.data_pipelines.video.frame_layout import FrameLayout, survives
from ivjax.errors import UserError

_ALIGNMENT = 64
_MOST_GRAPHS = 64  # of a thread; the crops of training are mostly new ones, those of tests are few
_EMPTY, _CLAIMED, _READY, _LEFT_OUT = range(4)
_HEADER = np.dtype([("used", "u8"), ("clips", "u8"), ("hits", "u8"), ("misses", "u8")])
_ENTRY = np.dtype(
    [
        ("state", "u4"),
        ("frames", "u4"),
        ("offset", "u8"),
        ("fps", "f8"),
        ("width", "u4"),
        ("height", "u4"),
        ("audio", "u4"),
        ("colorspace", "i4"),
        ("color_range", "i4"),
        ("format", "S20"),
    ]
)


class CacheCounts(NamedTuple):
    """Contents of the cache, and how many visits have found their clip in it or not."""

    clips: int
    bytes: int
    hits: int
    misses: int


class FrameCache:
    """The frames of clips 0 ... `clips` - 1 in the shared memory of the descriptor `file`. Thread-safe.

    An entry counts only when it is complete. A process that ends while it writes an entry leaves nothing
    but unused memory.
    """

    def __init__(self, file: int, clips: int):
        size = os.fstat(file).st_size
        self._file = file
        self._memory = mmap.mmap(file, size)
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._header = np.frombuffer(self._memory, _HEADER, 1)[0:1]
        self._entries = np.frombuffer(self._memory, _ENTRY, clips, _aligned(_HEADER.itemsize))
        self._first = _index_bytes(clips)
        self._thread_lock = threading.Lock()
        self._graphs = _Graphs()

    def open(self, number: int, payload: bytes) -> "Video | CachedVideo":
        """Opens clip `number`, whose media bytes are `payload` and caches it if it fits. Raises ClipError."""
        with self._locked():
            entry = self._entries[number].copy()
            found = entry["state"] == _READY
            self._header["hits" if found else "misses"] += 1
        if found:
            return self._video(entry)
        if entry["state"] == _EMPTY and self._store(number, payload):
            return self._video(self._entries[number].copy())
        return Video(payload)

    def counts(self) -> CacheCounts:
        """Returns the counts of all processes."""
        with self._locked():
            header = self._header[0].copy()
        return CacheCounts(*(int(header[name]) for name in ("clips", "used", "hits", "misses")))

    def _video(self, entry: np.void) -> "CachedVideo":
        layout = _layout_of(entry)
        start = self._first + int(entry["offset"])
        frames = self._bytes[start : start + int(entry["frames"]) * layout.bytes]
        found = Probe(
            int(entry["frames"]),
            float(entry["fps"]),
            layout.width,
            layout.height,
            bool(entry["audio"]),
        )
        return CachedVideo(frames.reshape(found.frames, layout.bytes), layout, found, self._graphs)

    def _store(self, number: int, payload: bytes) -> bool:
        """Decodes a whole clip into the cache; False if it does not fit or cannot be cached."""
        try:
            with Video(payload) as video:
                return self._store_frames(number, video)
        except ClipError:  # the caller opens the clip as without a cache, and meets the same error
            self._end_claim(number, _LEFT_OUT)
            return False

    def _store_frames(self, number: int, video: Video) -> bool:
        found = video.probe
        first = video.decode([0])[0]
        layout = FrameLayout.of_frame(first)
        if not survives(first, layout):
            self._end_claim(number, _LEFT_OUT)
            return False
        size = _aligned(found.frames * layout.bytes)
        offset = self._claim(number, size)
        if offset is None:
            return False
        start = self._first + offset
        frames = self._bytes[start : start + found.frames * layout.bytes].reshape(-1, layout.bytes)
        if not _decode_into(frames, layout, video):
            self._end_claim(number, _LEFT_OUT, offset, size)
            return False
        self._describe(number, layout, found, offset)
        self._end_claim(number, _READY)
        return True

    def _describe(self, number: int, layout: FrameLayout, found: Probe, offset: int) -> None:
        entry = self._entries[number : number + 1]
        entry["offset"], entry["frames"], entry["fps"] = offset, found.frames, found.fps
        entry["width"], entry["height"], entry["audio"] = layout.width, layout.height, found.audio
        entry["colorspace"], entry["color_range"] = layout.colorspace, layout.color_range
        entry["format"] = layout.format.encode()

    def _claim(self, number: int, size: int) -> int | None:
        """Returns the place of `size` free bytes; None if there are none or another process has the clip."""
        with self._locked():
            offset = int(self._header["used"][0])
            if self._entries["state"][number] != _EMPTY:
                return None
            if self._first + offset + size > len(self._bytes):
                self._entries["state"][number] = _LEFT_OUT  # later visits need not find out again
                return None
            self._header["used"] = offset + size
            self._entries["state"][number] = _CLAIMED
            return offset

    def _end_claim(self, number: int, state: int, offset: int = 0, size: int = 0) -> None:
        """Sets the state of a clip; frees its `size` bytes unless others have taken memory behind them."""
        with self._locked():
            self._entries["state"][number] = state
            if state == _READY:
                self._header["clips"] += 1
            elif size and self._header["used"] == offset + size:
                self._header["used"] = offset

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # The kernel frees a file's lock when its process ends, however it ends. Threads of one process
        # share that lock, so they need one more.
        with self._thread_lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


class CachedVideo:
    """A clip in the cache; it is read like `Video`."""

    def __init__(self, frames: np.ndarray, layout: FrameLayout, probe: Probe, graphs: "_Graphs"):
        self._frames = frames
        self._layout = layout
        self._graphs = graphs
        self.probe = probe

    def read(
        self, indices: Sequence[int] | np.ndarray, box: Box | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Returns frames by number: (n, H, W, 3) uint8 RGB; see `read_frames`."""
        wanted = [int(index) for index in indices]
        if not wanted or min(wanted) < 0 or max(wanted) >= self.probe.frames:
            raise ClipError("wrong frames", f"frames {wanted} of {self.probe.frames}")
        frames = {index: self._layout.frame(self._frames[index]) for index in set(wanted)}
        graph = self._graphs.find(self._layout, box, size, frames[wanted[0]])
        return apply_graph(graph, [frames[index] for index in wanted])

    def __enter__(self) -> "CachedVideo":
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to close."""


class _Graphs(threading.local):
    """The filter graphs that a thread has used last. Making one takes as long as filtering four frames."""

    def __init__(self) -> None:
        self._known: dict[object, av.filter.Graph] = {}

    def find(
        self, layout: FrameLayout, box: Box | None, size: tuple[int, int] | None, frame: av.VideoFrame
    ) -> av.filter.Graph:
        """Returns the graph for frames of a layout, such as `frame`."""
        key = (layout, box, size)
        graph = self._known.pop(key, None) or rgb_graph(frame, box, size)
        self._known[key] = graph  # the last one is the most recently used
        if len(self._known) > _MOST_GRAPHS:
            self._known.pop(next(iter(self._known)))
        return graph


def cache_file(gib: float, clips: int) -> IO[bytes]:
    """Returns memory for a FrameCache of `clips` clips and `gib` GiB of frames.

    It has no name, so it is freed with the last process that has it, however that ends.
    """
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if not 0 < gib * 2**30 <= physical:
        raise UserError(
            f"data.cache_gib={gib:g}; it must be 0 (off) or more, and below the memory of this machine, "
            f"{physical / 2**30:.1f} GiB"
        )
    # Pages take memory only when they are written to, so entries of clips that never come cost nothing.
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("ivjax-frames"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(_index_bytes(clips) + int(gib * 2**30))
    return file


def _layout_of(entry: np.void) -> FrameLayout:
    numbers = (int(entry[name]) for name in ("colorspace", "color_range"))
    return FrameLayout(int(entry["width"]), int(entry["height"]), entry["format"].decode(), *numbers)


def _index_bytes(clips: int) -> int:
    return _aligned(_HEADER.itemsize) + _aligned(clips * _ENTRY.itemsize)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _decode_into(frames: np.ndarray, layout: FrameLayout, video: Video) -> bool:
    """Decodes all frames of a clip to `frames` (n, bytes); False if one is damaged, missing or differs."""
    count = 0
    try:
        for frame in video.all_frames():
            if count == len(frames) or FrameLayout.of_frame(frame) != layout:
                return False
            layout.write(frame, frames[count])
            count += 1
    except ClipError:
        return False
    return count == len(frames)
