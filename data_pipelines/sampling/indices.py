"""Arithmetic of the frame rules: lengths in, frame numbers out. The callers draw random numbers."""

import numpy as np

Ints = np.ndarray  # arrays of int64


def interval_bounds(length: int, frames: int) -> Ints:
    """Returns the first and last frame of min(frames, length) equal intervals: (n, 2)."""
    # Cut off and not rounded, as the originals' astype(int).
    edges = np.linspace(0, length, min(frames, length) + 1).astype(np.int64)
    return np.stack([edges[:-1], edges[1:] - 1], axis=1)


def per_second(length: int, fps: float, rate: float, most: int | None = None) -> Ints:
    """Returns the frames at the centres of slots of 1 / rate seconds: (n,) with n <= `most`, possibly 0."""
    slot = 1 / rate
    times = np.arange(slot / 2, length / fps + slot / 2, slot)
    # NumPy rounds halves to even, as the originals do.
    found = np.round(times * fps).astype(np.int64)
    found = found[found < length]
    return found if most is None or most <= 0 else found[:most]


def segment_room(length: int, segments: int, span: int) -> int:
    """Returns how many starts a span of frames has inside its segment; 0 or less if it does not fit."""
    return (length - span + 1) // segments


def walk(starts: Ints, steps: int, step: int, length: int, origin: int = 1) -> Ints:
    """Returns `steps` frames from each start, `step` apart; the last one repeats at the end of the clip.

    VideoMAE's readers count frames from 1 and stop one step before the end. `origin` 0 reproduces the
    reader that does not count from 1 and therefore asks for the frame before each.
    """
    rows = []
    for start in starts + origin:
        row = [start]
        while len(row) < steps:
            row.append(row[-1] + step if row[-1] + step < length else row[-1])
        rows.append(row)
    return np.array(rows, np.int64).reshape(-1) - 1


def spread_bounds(length: int, frames: int) -> Ints:
    """Returns the first and last frame of `frames` intervals that share their ends: (frames, 2)."""
    # Rounded half to even, as NumPy does in the originals; intervals of x.5 frames depend on it.
    edges = np.round((length - 1) / frames * np.arange(frames + 1)).astype(np.int64)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def spread(length: int, frames: int, view: int = 0, views: int = 1) -> Ints:
    """Returns a frame of each interval of `spread_bounds`; later views take later frames: (frames,)."""
    size = (length - 1) / frames
    return spread_bounds(length, frames)[:, 0] + int(size / (views + 1) * (view + 1))


def stretched(start: int, window: int, frames: int) -> Ints:
    """Returns frames from the first to the last of a window, at equal steps rounded down: (frames,)."""
    # As the originals: the step counts the window's end, which the last frame then must not reach.
    found = np.linspace(start, start + window, frames)
    return np.minimum(found, start + window - 1).astype(np.int64)


def tick_view(length: int, frames: int, view: int, views: int) -> Ints:
    """Returns one of Something-Something's views: every `views`-th frame of all views together: (frames,)."""
    tick = length / frames
    every = [int(v * tick / views + tick * x) for v in range(views) for x in range(frames)]
    return np.sort(np.array(every, np.int64))[view::views]


def frames_for(duration: float, local: int, least: int, most: int) -> int:
    """Returns about one frame a second, as a multiple of `local`, within [least, most]."""
    local = max(local, 1)
    return max(min(local * max(1, int(duration // local)), most), least)


def lowered(least: int, length: int, local: int) -> int:
    """Returns `least`, or the largest multiple of `local` that a clip of fewer frames has."""
    return length // local * local if least > length else least
