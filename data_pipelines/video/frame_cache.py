"""A cache of decoded clips in memory that all decode processes of a loader share.

Frames are stored in the decoder's pixel format (usually 4:2:0), from which crops and resizes start. So what
is read from the cache equals, pixel for pixel, what is decoded anew. Where a clip is asked for the same crop
and size again and again, as by tests, the resized pictures are stored too; and what a field makes of a clip
at each visit alike, such as the filter bank of its sound. No clip is ever evicted: every clip comes once an
epoch, so a clip that makes room for another one would be missed just as often.
"""

import os
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple

import numpy as np

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import Video, VideoFacts
from ivjax.data_pipelines.video.frame_layout import FrameLayout, RecentGraphs, survives
from ivjax.data_pipelines.video.shared_memory import SharedMemory, aligned, memory_file
from ivjax.errors import UserError

_EMPTY, _CLAIMED, _READY, _LEFT_OUT = range(4)
_SAME_REQUESTS = 3  # in a row, before resized pictures are stored; random crops hardly come twice in a row
_COUNTS = np.dtype([("clips", "u8"), ("hits", "u8"), ("misses", "u8")])
_ENTRY = np.dtype(
    [
        ("state", "u4"),
        ("frames", "u4"),
        ("offset", "u8"),
        ("frame_bytes", "u8"),
        ("fps", "f8"),
        ("width", "u4"),
        ("height", "u4"),
        ("audio", "u4"),
        ("colorspace", "i4"),
        ("color_range", "i4"),
        ("format", "S20"),
        ("request", "i4", 6),  # box and size of the latest visit
        ("requests", "u4"),  # how often they were the same, one after the other
        ("pictures", "i8"),  # offset of the resized pictures, plus 1; 0: not stored; -1: they do not fit
        ("kept", "i8"),  # offset of a matrix that a field has made, plus 1; 0: none yet; -1: it does not fit
        ("rows", "u4"),
        ("columns", "u4"),
    ]
)


class CacheCounts(NamedTuple):
    """Contents of the cache, and how many visits have found their clip in it or not."""

    clips: int
    bytes: int
    hits: int
    misses: int


def cache_file(gib: float, clips: int, path: str = "data") -> IO[bytes]:
    """Returns memory for a FrameCache of `clips` clips and `gib` GiB of frames; `path` is the mixture's."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if not 0 < gib * 2**30 <= physical:
        raise UserError(
            f"{path}.cache_gib={gib:g}; it must be 0 (off) or more, and below the memory of this machine, "
            f"{physical / 2**30:.1f} GiB"
        )
    return memory_file(SharedMemory.size(_index_bytes(clips), int(gib * 2**30)))


class FrameCache:
    """The frames of clips 0 ... `clips` - 1 in the shared memory of the descriptor `file`. Thread-safe.

    An entry counts only when it is complete. A process that ends while it writes an entry leaves nothing
    but unused memory.
    """

    def __init__(self, file: int, clips: int):
        self.memory = SharedMemory(file, _index_bytes(clips))
        self.graphs = RecentGraphs()
        self._counts = self.memory.index(0, _COUNTS, 1)
        self._entries = self.memory.index(aligned(_COUNTS.itemsize), _ENTRY, clips)

    def open(self, number: int, payload: bytes) -> "Video | CachedVideo":
        """Opens clip `number`, whose media bytes are `payload`; caches it if it fits. Raises ClipError."""
        with self.memory.locked():
            state = int(self._entries["state"][number])
            self._counts["hits" if state == _READY else "misses"] += 1
        # Outside the lock: decoding a clip must not keep the other processes waiting.
        if state == _READY or (state == _EMPTY and self._store(number, payload)):
            return CachedVideo(self, self._entries[number : number + 1])
        return Video(payload)

    def kept(self, number: int, columns: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns what `make` makes of clip `number`, (n, columns) float32; made once if it fits.

        One matrix of a clip is kept, that of the first field which asks.
        """
        entry = self._entries[number : number + 1]
        with self.memory.locked():
            place, rows, stored = (int(entry[name][0]) for name in ("kept", "rows", "columns"))
        if place > 0 and stored == columns:
            return self._matrix(place - 1, rows, columns)
        # Outside the lock: nobody waits for it.
        made = make()
        if place == 0:
            self._keep(entry, made)
        return made

    def _keep(self, entry: np.ndarray, made: np.ndarray) -> None:
        with self.memory.locked():
            offset = self.memory.take(made.nbytes)
        if offset is not None:
            self._matrix(offset, *made.shape)[:] = made
        with self.memory.locked():
            # Where two processes have made it at once the first one's counts.
            if entry["kept"][0] == 0:
                entry["rows"], entry["columns"] = made.shape
                entry["kept"] = -1 if offset is None else offset + 1
            elif offset is not None:
                self.memory.give_back(offset, made.nbytes)

    def _matrix(self, offset: int, rows: int, columns: int) -> np.ndarray:
        return self.memory.view(offset, 4 * rows * columns).view(np.float32).reshape(rows, columns)

    def leave_out(self, number: int) -> bool:
        """Has later visits read a clip as without a cache; False if nobody is storing it."""
        with self.memory.locked():
            is_claimed = self._entries["state"][number] == _CLAIMED
            if is_claimed:
                self._entries["state"][number] = _LEFT_OUT
            return bool(is_claimed)

    def counts(self) -> CacheCounts:
        """Returns the counts of all processes."""
        with self.memory.locked():
            clips, hits, misses = map(int, self._counts[0])
            return CacheCounts(clips, self.memory.used, hits, misses)

    def _store(self, number: int, payload: bytes) -> bool:
        """Decodes a whole clip into the cache; False if it does not fit or cannot be cached."""
        try:
            # The whole clip, though few frames are asked for now: later visits ask for others.
            with Video(payload) as video:
                return self._store_frames(number, video)
        except ClipError:  # the caller opens the clip as without a cache, and meets the same error
            self._end_claim(number, _LEFT_OUT)
            return False

    def _store_frames(self, number: int, video: Video) -> bool:
        found, first = video.probe, video.decode([0])[0]
        layout = FrameLayout.of_frame(first)
        if not survives(first, layout):
            self._end_claim(number, _LEFT_OUT)
            return False
        size = found.frames * layout.bytes
        offset = self._claim(number, size)
        if offset is None:
            return False
        frames = self.memory.view(offset, size).reshape(found.frames, layout.bytes)
        if not _decode_into(frames, layout, video):
            self._end_claim(number, _LEFT_OUT, offset, size)
            return False
        # Before the entry becomes ready, after which others read it without the lock.
        self._describe(number, layout, found, offset)
        self._end_claim(number, _READY)
        return True

    def _describe(self, number: int, layout: FrameLayout, found: VideoFacts, offset: int) -> None:
        entry = self._entries[number : number + 1]
        entry["offset"], entry["frame_bytes"] = offset, layout.bytes
        entry["frames"], entry["fps"], entry["audio"] = found.frames, found.fps, found.audio
        entry["width"], entry["height"], entry["format"] = layout.width, layout.height, layout.format.encode()
        entry["colorspace"], entry["color_range"] = layout.colorspace, layout.color_range

    def _claim(self, number: int, size: int) -> int | None:
        """Returns the place of `size` free bytes; None if there are none or another process has the clip."""
        with self.memory.locked():
            if self._entries["state"][number] != _EMPTY:
                return None
            offset = self.memory.take(size)
            # That there is no room is noted, so that later visits need not find it out again.
            self._entries["state"][number] = _LEFT_OUT if offset is None else _CLAIMED
            return offset

    def _end_claim(self, number: int, state: int, offset: int = 0, size: int = 0) -> None:
        """Sets the state of a clip; frees its `size` bytes unless others have taken memory behind them."""
        with self.memory.locked():
            self._entries["state"][number] = state
            if state == _READY:
                self._counts["clips"] += 1
            elif size:
                self.memory.give_back(offset, size)


class CachedVideo:
    """A clip in the cache, read like `Video`; `entry` (1,) is its place in the index."""

    def __init__(self, cache: FrameCache, entry: np.ndarray):
        self._cache = cache
        self._entry = entry
        facts = entry[0]
        self.probe = VideoFacts(
            int(facts["frames"]),
            float(facts["fps"]),
            int(facts["width"]),
            int(facts["height"]),
            bool(facts["audio"]),
        )

    def read(
        self, indices: Sequence[int] | np.ndarray, box: Box | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Returns frames by number: (n, H, W, 3) uint8 RGB; see `read_frames`."""
        wanted = np.asarray([int(index) for index in indices])
        if not len(wanted) or wanted.min() < 0 or wanted.max() >= self.probe.frames:
            raise ClipError("wrong frames", f"frames {wanted.tolist()} of {self.probe.frames}")
        stored = self._stored_pictures(box, size) if size is not None else None
        if stored is None:
            return self._resize(wanted, box, size)
        ready, flags, pictures = stored
        missing = np.unique(wanted[ready[wanted] == 0])
        if len(missing):
            pictures[missing] = self._resize(missing, box, size)
            with self._cache.memory.locked():
                # After the pixels: a flag that is set is believed without the lock.
                flags[missing] = 1
        return pictures[wanted]

    def _resize(self, wanted: np.ndarray, box: Box | None, size: tuple[int, int] | None) -> np.ndarray:
        facts = self._entry[0]
        layout = FrameLayout(
            self.probe.width,
            self.probe.height,
            facts["format"].decode(),
            int(facts["colorspace"]),
            int(facts["color_range"]),
        )
        frame_bytes = int(facts["frame_bytes"])
        stored = self._cache.memory.view(int(facts["offset"]), self.probe.frames * frame_bytes)
        stored = stored.reshape(self.probe.frames, frame_bytes)
        return self._cache.graphs.to_rgb(layout, stored, wanted, box, size)

    def _stored_pictures(
        self, box: Box | None, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The pictures of this crop and size: which are there, their flags, (frames, H, W, 3) uint8.

        None while this crop and size have not come often enough, or if there is no room.
        """
        request = (*(box or (-1, -1, -1, -1)), *size)
        entry, memory, frames = self._entry, self._cache.memory, self.probe.frames
        picture_bytes = size[0] * size[1] * 3
        with memory.locked():
            is_same = np.array_equal(entry["request"][0], request)
            if entry["pictures"][0] == 0:
                entry["request"] = request
                entry["requests"] = entry["requests"] + 1 if is_same else 1
                if entry["requests"][0] >= _SAME_REQUESTS:
                    self._take_pictures(frames * (picture_bytes + 1))
            if entry["pictures"][0] <= 0 or not is_same:
                return None
            stored = memory.view(int(entry["pictures"][0]) - 1, frames * (picture_bytes + 1))
            flags = stored[:frames]
            return flags.copy(), flags, stored[frames:].reshape(frames, *size, 3)

    def _take_pictures(self, size: int) -> None:
        offset = self._cache.memory.take(size)
        if offset is not None:
            # A clip that could not be cached may have left its bytes here. Cleared before others are told of
            # the place, because this process may be killed in between.
            self._cache.memory.view(offset, self.probe.frames)[:] = 0
        self._entry["pictures"] = -1 if offset is None else offset + 1

    def __enter__(self) -> "CachedVideo":
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to close."""


def _index_bytes(clips: int) -> int:
    return aligned(_COUNTS.itemsize) + clips * _ENTRY.itemsize


def _decode_into(frames: np.ndarray, layout: FrameLayout, video: Video) -> bool:
    """Decodes all frames of a clip to `frames` (n, bytes); False if one is damaged, missing or differs."""
    try:
        for target, frame in zip(frames, video.all_frames(), strict=True):
            if FrameLayout.of_frame(frame) != layout:
                return False
            layout.write(frame, target)
    except ClipError:
        return False
    return True
