"""Renders scenes of the demo corpus: moving shapes with smooth edges."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ivjax.data_pipelines.demo.background import paint
from ivjax.data_pipelines.demo.scene import Event, Scene

# Of the time of its event, for how much a motion with an end goes on.
_MOVING = {"slow": 1.0, "medium": 0.7, "fast": 0.35}
# How often per second a motion without an end repeats, at medium speed, and what the others make of it.
_RATES = {"spins": 0.3, "bounces": 0.7, "blinks": 1.0, "loops": 0.25}
_PACE = {"slow": 0.45, "medium": 1.0, "fast": 2.2}
_SMALLEST = 0.3  # of its full radius: where a shape begins to grow or stops to shrink
_LOOP = 0.2  # radius of a loop over the short side


class Pose(NamedTuple):
    """Position of a shape: centre and radius in pixels, turned by `angle` in radians."""

    x: float
    y: float
    radius: float
    angle: float = 0.0


def draw_frames(scene: Scene, width: int, height: int) -> Iterator[np.ndarray]:
    """Yields the frames of a scene, (height, width, 3) uint8; later events cover earlier ones."""
    behind = paint(scene.background, width, height)
    for number in range(scene.frames):
        yield _over(behind, scene, number)


def draw_frame(scene: Scene, number: int, width: int, height: int) -> np.ndarray:
    """Returns one frame of a scene: (height, width, 3) uint8."""
    return _over(paint(scene.background, width, height), scene, number)


def _over(behind: np.ndarray, scene: Scene, number: int) -> np.ndarray:
    picture = behind.copy()
    height, width, _ = picture.shape
    for event in scene.seen(number / scene.fps):
        for pose in poses(event, number / scene.fps, width, height):
            stamp(picture, event.shape, event.rgb, pose)
    return picture


def poses(event: Event, time: float, width: int, height: int) -> list[Pose]:
    """Returns the poses of an event's shapes at a time of the clip; none while they are hidden."""
    elapsed = min(time, event.ends) - event.begins
    if elapsed < 0:
        return []
    done = min(elapsed / (_MOVING[event.speed] * (event.ends - event.begins)), 1.0)
    turns = elapsed * _RATES.get(event.motion, 0.0) * _PACE[event.speed]
    if event.motion == "blinks" and time < event.ends and turns % 1 > 0.6:
        return []
    return [_pose(event, lane, done, turns, width, height) for lane in event.lanes]


def _pose(event: Event, lane: float, done: float, turns: float, width: int, height: int) -> Pose:
    short = min(width, height)
    radius = event.radius * short
    x, y = lane * width, event.rest * height
    match event.motion:
        case "enters from the left":
            return Pose(_path(radius, event.rest * width, done), lane * height, radius)
        case "enters from the right":
            return Pose(width - _path(radius, event.rest * width, done), lane * height, radius)
        case "falls":
            return Pose(x, _path(radius, event.rest * height, done), radius)
        case "rises":
            return Pose(x, height - _path(radius, event.rest * height, done), radius)
        case "grows":
            return Pose(x, y, radius * (_SMALLEST + (1 - _SMALLEST) * done))
        case "shrinks":
            return Pose(x, y, radius * (1 - (1 - _SMALLEST) * done))
        case "spins":
            return Pose(x, y, radius, 2 * math.pi * turns)
        case "bounces":
            floor = 0.94 * height - radius
            rise = min(0.5 * height, floor - radius)
            return Pose(x, floor - rise * abs(math.sin(math.pi * turns)), radius)
        case "loops":
            angle = 2 * math.pi * turns
            return Pose(x + _LOOP * short * math.sin(angle), y - _LOOP * short * math.cos(angle), radius)
        case _:
            return Pose(x, y, radius)


def _path(radius: float, rest: float, done: float) -> float:
    """Returns the place on the way from just outside the picture to `rest`."""
    return -radius + (rest + radius) * done


def stamp(picture: np.ndarray, shape: str, rgb: np.ndarray, pose: Pose) -> None:
    """Draws a shape into `picture` (H, W, 3) uint8, cut off at its edges."""
    height, width, _ = picture.shape
    reach = pose.radius + 1
    top, bottom = max(math.floor(pose.y - reach), 0), min(math.ceil(pose.y + reach) + 1, height)
    left, right = max(math.floor(pose.x - reach), 0), min(math.ceil(pose.x + reach) + 1, width)
    if top >= bottom or left >= right:
        return
    v = (np.arange(top, bottom)[:, None] - pose.y) / pose.radius
    u = (np.arange(left, right)[None, :] - pose.x) / pose.radius
    sine, cosine = math.sin(pose.angle), math.cos(pose.angle)
    depth = _DEPTHS[shape](u * cosine + v * sine, v * cosine - u * sine)
    # The share of a pixel that the shape covers, about; hard edges would flicker as shapes move.
    cover = np.clip(depth * pose.radius + 0.5, 0, 1)[..., None]
    box = picture[top:bottom, left:right]
    box[...] = np.rint(box + cover * (rgb - box))


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance inside a triangle that points up, with corners on the unit circle."""
    return 0.5 - np.maximum(v, np.abs(u) * math.sqrt(0.75) - v / 2)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.minimum(0.95 - u, 0.3 - v), np.minimum(0.95 - v, 0.3 - u))


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance inside a star of five points; its edge is straight in every tenth of a turn."""
    tenth = math.pi / 5
    angle = np.abs((np.arctan2(u, -v) + tenth) % (2 * tenth) - tenth)
    distance = np.hypot(u, v)
    inner = np.array([math.cos(tenth), math.sin(tenth)]) * 0.45
    normal = np.array([inner[1], 1 - inner[0]]) / math.hypot(inner[1], 1 - inner[0])
    return normal[0] * (1 - distance * np.cos(angle)) - normal[1] * distance * np.sin(angle)


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    distance = np.hypot(u, v)
    return np.minimum(1 - distance, distance - 0.55)


# How deep inside the shape a point is, in radii; negative outside.
_DEPTHS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda u, v: 1 - np.hypot(u, v),
    "square": lambda u, v: 0.82 - np.maximum(np.abs(u), np.abs(v)),
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}
