"""Clips of a long video one after the other, decoded ahead of who reads them, in bounded memory."""

import queue
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.video.clip_video import ClipVideo
from ivjax.errors import UserError


class ClipStream(Iterator[np.ndarray]):
    """Iterates over batches of clips (n, T, H, W, 3) uint8 of a video, in order; the last may be smaller.

    A thread decodes the next `ahead` batches while one is worked on, so that no more than `ahead` + 2 of them
    are in memory, however long the video is. A fault of the video is raised when its clip would come.

    Args:
        video: the opened video; nobody else reads it until the stream is closed.
        frames: numbers of the frames, a multiple of `clip`.
        size: height and width; None: as large as they are.
        clip: frames of a clip.
        batch: clips of a batch.
        ahead: batches that are decoded ahead.
        box: what of each frame is read; None: all of it.
    """

    def __init__(
        self,
        video: ClipVideo,
        frames: Sequence[int] | np.ndarray,
        size: tuple[int, int] | None,
        clip: int,
        batch: int = 8,
        ahead: int = 2,
        box: Box | None = None,
    ):
        if len(frames) == 0 or len(frames) % clip:
            raise UserError(f"{len(frames)} frames are no whole clips of {clip}; take a multiple of {clip}")
        if batch < 1 or ahead < 1:
            raise UserError(f"batch and ahead must be at least 1, got {batch} and {ahead}")
        self._video, self._size, self._box, self._clip = video, size, box, clip
        chosen = np.asarray(frames)
        self._parts = [chosen[start : start + clip * batch] for start in range(0, len(chosen), clip * batch)]
        self._made: queue.Queue[np.ndarray | BaseException | None] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="ivjax-clips", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for part in self._parts:
                if self._stopped.is_set():
                    return
                pictures = self._video.read(part, self._box, self._size)
                self._put(pictures.reshape(-1, self._clip, *pictures.shape[1:]))
            self._put(None)
        except BaseException as error:  # handed to the reader, who alone can act on it
            self._put(error)

    def _put(self, made: np.ndarray | BaseException | None) -> None:
        # In turns, because a reader that has closed takes nothing out any more.
        while not self._stopped.is_set():
            try:
                self._made.put(made, timeout=0.1)
                return
            except queue.Full:
                continue

    def __next__(self) -> np.ndarray:
        if self._ended:
            raise StopIteration
        made = self._made.get()
        if isinstance(made, np.ndarray):
            return made
        self._ended = True
        if made is None:
            raise StopIteration
        raise made

    def close(self) -> None:
        """Ends the thread; the video can be closed then."""
        self._ended = True
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> "ClipStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
