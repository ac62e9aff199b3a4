"""Scenes of the demo corpus: random events, stored as words and measures."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeVar

import numpy as np

from ivjax.data_pipelines.demo.background import Background, Tint, draw_background

T = TypeVar("T")
Order = Literal["single", "then", "together"]  # when the second event begins, if there is one

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (225, 35, 35),
    "green": (45, 185, 55),
    "blue": (45, 90, 235),
    "yellow": (245, 225, 45),
    "purple": (160, 50, 205),
    "cyan": (50, 215, 225),
    "orange": (250, 140, 30),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
ENTRANCES = ("enters from the left", "enters from the right", "falls", "rises")
MOTIONS = (*ENTRANCES, "grows", "shrinks", "spins", "bounces", "blinks", "loops")
SPEEDS = ("slow", "medium", "fast")
SOUNDS = ("high", "low", "beeping")
EVENT_SOUNDS = "events"  # in place of one of SOUNDS: each event is heard
# What is heard of a motion then.
SOUND_OF: Mapping[str, str] = {
    "enters from the left": "rumble",
    "enters from the right": "hiss",
    "falls": "falling whistle",
    "rises": "rising whistle",
    "grows": "buzz",
    "shrinks": "bell",
    "spins": "whirr",
    "bounces": "knocks",
    "blinks": "beeps",
    "loops": "siren",
}
SIZES = {"small": (0.1, 0.125), "medium": (0.15, 0.18), "big": (0.24, 0.28)}  # radius over the short side
_CHANGING_SIZE = {"changing": (0.14, 0.3)}  # of what grows or shrinks, at its biggest
_COUNTS = {1: 0.5, 2: 0.22, 3: 0.16, 4: 0.12}
_EVENTS = {1: 0.45, 2: 0.4, 3: 0.15}
_EVENT_SECONDS = {1: 0, 2: 4, 3: 9}  # a clip has to last as long to hold so many events
_MARGIN = 0.04  # of the picture, left free at either side


@dataclass(frozen=True)
class Event:
    """A group of equal shapes that move together.

    Attributes:
        colour: one of COLOURS.
        shape: one of SHAPES.
        motion: one of MOTIONS.
        size: word for the size.
        speed: one of SPEEDS.
        radius: as a share of the short side of the picture.
        lanes: places across the direction of motion, one per shape, as shares of the picture.
        rest: place along the direction at which the motion ends, as a share of the picture.
        shade: brightness of the colour.
        begins: second of the clip at which the group appears.
        ends: second at which it stops.
    """

    colour: str
    shape: str
    motion: str
    size: str
    speed: str
    radius: float
    lanes: tuple[float, ...]
    rest: float
    shade: float
    begins: float
    ends: float

    @property
    def count(self) -> int:
        """Number of shapes."""
        return len(self.lanes)

    @property
    def rgb(self) -> np.ndarray:
        """The drawn colour, a little darker than its name's: (3,)."""
        return np.array(COLOURS[self.colour]) * self.shade


@dataclass(frozen=True)
class Scene:
    """A clip: events in the order in which they begin, over one background.

    Attributes:
        events: what moves.
        order: when the second event begins, if there is one.
        background: what is behind.
        sound: one of SOUNDS, `none`, or EVENT_SOUNDS.
        frames: how many.
        fps: frames per second.
        alone: whether a group vanishes as the next one appears.
    """

    events: tuple[Event, ...]
    order: Order
    background: Background
    sound: str
    frames: int
    fps: int
    alone: bool = False

    def attributes(self) -> dict[str, str]:
        """Returns the words for what is seen and heard; those of the second event end in 2, and so on.

        Of groups that are alone also `colours`, such as "red then blue", and `first_colour`.
        """
        words = {"events": str(len(self.events)), "order": self.order}
        words |= {"background": self.background.pattern, "sound": self.sound}
        for number, event in enumerate(self.events, 1):
            suffix = "" if number == 1 else str(number)
            for name in ("colour", "shape", "motion", "size", "speed", "count"):
                words[name + suffix] = str(getattr(event, name))
            if self.sound == EVENT_SOUNDS:
                words["sound" + suffix] = SOUND_OF[event.motion]
            words["begins" + suffix] = f"{event.begins:.2f}"
            words["ends" + suffix] = f"{event.ends:.2f}"
        if self.alone:
            words["colours"] = " then ".join(event.colour for event in self.events)
            words["first_colour"] = self.events[0].colour
        return words

    def seen(self, time: float) -> tuple[Event, ...]:
        """Returns the events of which something is seen at a second of the clip."""
        begun = tuple(event for event in self.events if event.begins <= time)
        return begun[-1:] if self.alone else begun

    def contrast(self) -> float:
        """Returns the mean distance of the shapes' colours from the background's, 0 to 1."""
        behind = self.background.tones().mean(0)
        return float(np.mean([np.linalg.norm(e.rgb - behind) for e in self.events]) / (255 * math.sqrt(3)))


def is_held_out(colour: str, shape: str, motion: str) -> bool:
    """Whether a combination never occurs in training, where every two of its three words do."""
    places = list(COLOURS).index(colour), SHAPES.index(shape), MOTIONS.index(motion)
    # A linear code: every pair of words keeps partners in training, and one in eight triples is left out.
    return (places[0] + 3 * places[1] + 5 * places[2]) % len(COLOURS) == 0


@functools.cache
def combinations(held_out: bool) -> tuple[tuple[str, str, str], ...]:
    """Returns the (colour, shape, motion) that may occur. Round shapes do not spin: nobody could see it."""
    every = itertools.product(COLOURS, SHAPES, MOTIONS)
    seen = (c for c in every if not (c[1] in ("circle", "ring") and c[2] == "spins"))
    return tuple(c for c in seen if is_held_out(*c) == held_out)


def draw_scene(
    rng: np.random.Generator, frames: int, fps: int, tint: Tint, held_out: bool, sound: str = "none"
) -> Scene:
    """Draws a scene of `frames` frames, with only held-out combinations or with none of them."""
    seconds = float(Fraction(frames, fps))
    possible = {n: share for n, share in _EVENTS.items() if seconds >= _EVENT_SECONDS[n]}
    wanted = pick(rng, list(possible), list(possible.values()))
    order: Order = "single" if wanted == 1 else "then"
    if wanted == 2 and rng.random() < 0.4:
        order = "together"
    triples = _distinct(rng, combinations(held_out), wanted)
    windows = _windows(rng, seconds, wanted, order)
    bands = rng.permutation(wanted)
    events = tuple(
        _draw_event(rng, triple, window, int(band), wanted)
        for triple, window, band in zip(triples, windows, bands, strict=True)
    )
    return Scene(events, order, draw_background(rng, tint), sound, frames, fps)


def draw_pair(
    rng: np.random.Generator, frames: int, fps: int, tint: Tint, held_out: bool, sound: str = "none"
) -> Scene:
    """Draws a scene of two groups of different colours, one after the other: no frame tells their order."""
    seconds = float(Fraction(frames, fps))
    first, second = pick(rng, combinations(held_out)), pick(rng, combinations(held_out))
    while first[0] == second[0]:
        second = pick(rng, combinations(held_out))
    cut = seconds * float(rng.uniform(0.4, 0.6))
    windows = ((0.0, cut), (cut, seconds))
    events = tuple(
        _draw_event(rng, triple, window, 0, 1)
        for triple, window in zip((first, second), windows, strict=True)
    )
    return Scene(events, "then", draw_background(rng, tint), sound, frames, fps, alone=True)


def pick(rng: np.random.Generator, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """Draws one of `options` by weight."""
    shares = None if weights is None else np.array(weights) / sum(weights)
    return options[int(rng.choice(len(options), p=shares))]


def _distinct(
    rng: np.random.Generator, triples: Sequence[tuple[str, str, str]], wanted: int
) -> list[tuple[str, str, str]]:
    """Draws combinations that differ in colour or shape, so that captions can tell them apart."""
    chosen: dict[tuple[str, str], tuple[str, str, str]] = {}
    while len(chosen) < wanted:
        triple = pick(rng, triples)
        chosen.setdefault(triple[:2], triple)
    return list(chosen.values())


def _windows(
    rng: np.random.Generator, seconds: float, events: int, order: Order
) -> list[tuple[float, float]]:
    lead = float(rng.uniform(0, 0.08)) * seconds
    if order != "then":
        return [(lead, seconds)] * events
    bounds = np.linspace(lead, seconds, events + 1)
    return [(float(a), float(b)) for a, b in itertools.pairwise(bounds)]


def _draw_event(
    rng: np.random.Generator, triple: tuple[str, str, str], window: tuple[float, float], band: int, bands: int
) -> Event:
    """Draws an event whose shapes stay in strip `band` of `bands` and fit into it."""
    colour, shape, motion = triple
    width = (1 - 2 * _MARGIN) / bands
    sizes = _CHANGING_SIZE if motion in ("grows", "shrinks") else SIZES
    room = {n: 0.48 * width / n for n in _COUNTS}
    counts = {n: share for n, share in _COUNTS.items() if any(lo <= room[n] for lo, _ in sizes.values())}
    count = pick(rng, list(counts), list(counts.values()))
    size = pick(rng, [name for name, (smallest, _) in sizes.items() if smallest <= room[count]])
    smallest, biggest = sizes[size]
    lanes = _MARGIN + width * (band + (np.arange(count) + 0.5) / count)
    return Event(
        *triple,
        size=size,
        speed=pick(rng, SPEEDS),
        radius=float(rng.uniform(smallest, min(biggest, room[count]))),
        lanes=tuple(float(lane) for lane in lanes),
        rest=float(rng.uniform(0.6, 0.8) if motion in ENTRANCES else rng.uniform(0.42, 0.58)),
        shade=float(rng.uniform(0.88, 1.0)),
        begins=window[0],
        ends=window[1],
    )
