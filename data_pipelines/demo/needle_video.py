"""Long videos of the demo corpus with one odd scene to find, or a chain of them.

Any frame is drawn by itself, so a video of 10,000 frames takes no time to make and no space.
"""

import base64
import bisect
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.demo.background import Tint, draw_background
from ivjax.data_pipelines.demo.draw import draw_frame
from ivjax.data_pipelines.demo.questions import SceneQuestion, choices_of, question_turns
from ivjax.data_pipelines.demo.scene import COLOURS, Event, Order, Scene, draw_scene
from ivjax.data_pipelines.video.decode import VideoFacts
from ivjax.data_pipelines.video.encode import Encoding, encode_video
from ivjax.errors import UserError

_VERSION = 1  # of what is drawn
_ENCODING = Encoding(crf=20, gop=24, preset="superfast")
_SCENE = (8, 25)  # frames of a scene of the haystack: from, to (not reached)
_SIDE = 112
NEEDLE, POINTER = "star", "cross"  # shapes that come in the odd scenes alone


class _Placed(NamedTuple):
    start: int
    scene: Scene


@dataclass(frozen=True)
class NeedleVideo:
    """A video of one frame a second, in which a star is to be found. A ClipVideo: it is read frame by frame.

    With more than one hop, each odd scene also has a cross in the colour of the next star.

    Attributes:
        seed: of what is drawn.
        number: number of the video.
        frames: how many frames it has.
        depth: where the odd scene is, 0 to 1 of the video; a chain runs from the first frame to the last.
        hops: odd scenes.
        needle: frames of an odd scene, which begins at a multiple of them.
    """

    seed: int
    number: int
    frames: int = 1000
    depth: float = 0.5
    hops: int = 1
    needle: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.depth <= 1:
            raise UserError(f"depth={self.depth} of a needle is not between 0 and 1")
        if self.frames < 2 * self.needle * self.hops:
            raise UserError(
                f"a video of {self.frames} frames is too short for {self.hops} odd scenes of {self.needle}; "
                "make it longer"
            )

    @property
    def id(self) -> str:
        """An id of 11 characters."""
        text = f"needle {_VERSION} {self}"
        return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())[:11].decode()

    @property
    def clips(self) -> int:
        """How many clips it has."""
        return 1

    @property
    def probe(self) -> VideoFacts:
        """See ClipVideo."""
        return VideoFacts(self.frames, 1.0, _SIDE, _SIDE, False)

    def read(
        self, indices: Sequence[int] | np.ndarray, box: Box | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """See ClipVideo. Frames are drawn at `size`, and not resized; they have no part that is `box`."""
        height, width = size or (_SIDE, _SIDE)
        if box is not None and box != Box(0, 0, _SIDE, _SIDE):
            raise UserError("a needle video is read whole; leave out the crop")
        return np.stack([self._frame(int(index), width, height) for index in indices])

    def _frame(self, index: int, width: int, height: int) -> np.ndarray:
        for start, scene in self._needles:
            if start <= index < start + self.needle:
                return draw_frame(scene, index - start, width, height)
        place = bisect.bisect_right(self._starts, index) - 1
        start, scene = self._haystack[place]
        return draw_frame(scene, index - start, width, height)

    def encode(self) -> bytes:
        """Returns the mp4."""
        pictures = (self._frame(index, _SIDE, _SIDE) for index in range(self.frames))
        return encode_video(pictures, Fraction(1), _ENCODING)

    def row(self) -> dict[str, Any]:
        """Returns the question, its options and the letter of the right one."""
        options, letter = choices_of(self._rng(1), self._question())
        facts = {"frames": self.frames, "depth": self.depth, "hops": self.hops}
        asked = {"question": self._question().text, "options": options, "answer": letter, "type": "needle"}
        return {"id": self.id, "video": f"{self.id}.mp4", "duration": float(self.frames), **asked, **facts}

    def training_row(self) -> dict[str, Any]:
        """Returns the question as a conversation to train on."""
        turns = question_turns(self._rng(1), [self._question()])
        return {
            "id": self.id,
            "video": f"{self.id}.mp4",
            "duration": float(self.frames),
            "conversations": turns,
        }

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([_VERSION, self.seed, self.number, purpose])

    def _question(self) -> SceneQuestion:
        first, *_, last = self._colours
        text = f"Somewhere in the video there is a {NEEDLE}. What colour is it?"
        answer = first
        if self.hops > 1:
            text = (
                f"Begin with the {first} {NEEDLE}. The {POINTER} beside each {NEEDLE} has the colour of the "
                f"next {NEEDLE}. What colour is the last {POINTER}?"
            )
            answer = last
        return SceneQuestion("needle", text, answer, tuple(colour for colour in COLOURS if colour != answer))

    @property
    def starts(self) -> list[int]:
        """The first frame of each odd scene."""
        last = (self.frames - self.needle) // self.needle
        if self.hops == 1:
            return [self.needle * min(int(self.depth * self.frames) // self.needle, last)]
        return [self.needle * (last * hop // (self.hops - 1)) for hop in range(self.hops)]

    @functools.cached_property
    def _colours(self) -> list[str]:
        """The colours of the stars, and that of the last cross."""
        rng = self._rng(2)
        names = list(COLOURS)
        # Neighbours differ, or a cross would not point on.
        colours = [names[int(rng.integers(len(names)))]]
        while len(colours) <= self.hops:
            found = names[int(rng.integers(len(names)))]
            colours += [found] * (found != colours[-1])
        return colours

    @functools.cached_property
    def _needles(self) -> list[_Placed]:
        rng = self._rng(3)
        found: list[_Placed] = []
        for hop, start in enumerate(self.starts):
            background = draw_background(rng, Tint(bool(rng.integers(2)), bool(rng.integers(2))))
            shapes = [(NEEDLE, self._colours[hop], 0.5)]
            if self.hops > 1:
                shapes = [(NEEDLE, self._colours[hop], 0.27), (POINTER, self._colours[hop + 1], 0.73)]
            events = tuple(_still(shape, colour, place, self.needle) for shape, colour, place in shapes)
            order: Order = "together" if len(events) > 1 else "single"
            found.append(_Placed(start, Scene(events, order, background, "none", self.needle, 1)))
        return found

    @functools.cached_property
    def _haystack(self) -> list[_Placed]:
        """Scenes from the first frame to the last, none with a shape of the odd ones."""
        rng = self._rng(4)
        tint = Tint(bool(rng.integers(2)), bool(rng.integers(2)))
        return list(_scenes(rng, self.frames, tint))

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [placed.start for placed in self._haystack]


def _scenes(rng: np.random.Generator, frames: int, tint: Tint) -> Iterator[_Placed]:
    start = 0
    while start < frames:
        scene = draw_scene(rng, int(rng.integers(*_SCENE)), 1, tint, held_out=False)
        if any(event.shape in (NEEDLE, POINTER) for event in scene.events):
            continue
        yield _Placed(start, scene)
        start += scene.frames
        tint = tint.opposite()


def _still(shape: str, colour: str, place: float, frames: int) -> Event:
    """Returns a shape that stands still from the first frame to the last."""
    return Event(
        colour, shape, "stands", "big", "medium", 0.22, (place,), rest=0.5, shade=1.0, begins=0.0, ends=frames
    )
