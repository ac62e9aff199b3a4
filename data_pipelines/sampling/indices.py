"""The arithmetic of the originals' readers: lengths in, frame numbers out. Random draws are the caller's."""

import numpy as np

Ints = np.ndarray  # int64


def interval_bounds(length: int, frames: int) -> Ints:
    """First and last frame of each of min(frames, length) intervals of equal length: (n, 2)."""
    edges = np.linspace(0, length, min(frames, length) + 1).astype(np.int64)
    return np.stack([edges[:-1], edges[1:] - 1], axis=1)


def per_second(length: int, fps: float, rate: float, most: int | None = None) -> Ints:
    """Frames at the centres of slots of 1 / rate seconds: (n,), n <= `most`; none if the clip is shorter."""
    slot = 1 / rate
    times = np.arange(slot / 2, length / fps + slot / 2, slot)
    found = np.round(times * fps).astype(np.int64)
    found = found[found < length]
    return found if most is None or most <= 0 else found[:most]


def segment_room(length: int, segments: int, span: int) -> int:
    """By how much the start of a span of frames may move inside its segment; 0 or less: not at all."""
    return (length - span + 1) // segments


def walk(starts: Ints, steps: int, step: int, length: int, origin: int = 1) -> Ints:
    """`steps` frames from each start, `step` apart; at the end of the clip the last one is repeated.

    The readers count from 1 and stop one step before the clip's end; `origin` 0 is the reader that
    forgot to count from 1, and so asks for the frame before each.
    """
    rows = []
    for start in starts + origin:
        row = [start]
        while len(row) < steps:
            row.append(row[-1] + step if row[-1] + step < length else row[-1])
        rows.append(row)
    return np.array(rows, np.int64).reshape(-1) - 1


def spread_bounds(length: int, frames: int) -> Ints:
    """First and last frame of `frames` intervals that share their ends: (frames, 2)."""
    edges = np.round((length - 1) / frames * np.arange(frames + 1)).astype(np.int64)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def spread(length: int, frames: int, view: int = 0, views: int = 1) -> Ints:
    """A frame inside each interval of `spread_bounds`, the later the later the view: (frames,)."""
    size = (length - 1) / frames
    return spread_bounds(length, frames)[:, 0] + int(size / (views + 1) * (view + 1))


def stretched(start: int, window: int, frames: int) -> Ints:
    """Frames from the first to the last of a window, at equal steps rounded down: (frames,)."""
    # As the originals: the step counts the window's end, which the last frame then must not reach.
    found = np.linspace(start, start + window, frames)
    return np.minimum(found, start + window - 1).astype(np.int64)


def tick_view(length: int, frames: int, view: int, views: int) -> Ints:
    """Something-Something's views: every `views`-th of the frames of all views in order: (frames,)."""
    tick = length / frames
    every = [int(v * tick / views + tick * x) for v in range(views) for x in range(frames)]
    return np.sort(np.array(every, np.int64))[view::views]


def frames_for(duration: float, local: int, least: int, most: int) -> int:
    """About one frame a second, a multiple of `local` (below 1: any number), within limits."""
    local = max(local, 1)
    return max(min(local * max(1, int(duration // local)), most), least)


def lowered(least: int, length: int, local: int) -> int:
    """`least`, or for a clip of fewer frames the largest multiple of `local` that it has."""
    return length // local * local if least > length else least
