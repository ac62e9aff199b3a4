"""A source video of the demo corpus: its shots, its rows of annotation and its bytes."""

import base64
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from ivjax.data_pipelines.demo.background import Tint, draw_background
from ivjax.data_pipelines.demo.draw import draw_frames
from ivjax.data_pipelines.demo.event_sound import event_sound
from ivjax.data_pipelines.demo.grammar import SceneCaption, write_captions, write_sound_captions
from ivjax.data_pipelines.demo.questions import choices_of, description_turns, questions_of, training_turns
from ivjax.data_pipelines.demo.scene import (
    COLOURS,
    EVENT_SOUNDS,
    SOUNDS,
    Scene,
    draw_pair,
    draw_scene,
    pick,
)
from ivjax.data_pipelines.demo.sound import RATE, tone
from ivjax.data_pipelines.video.encode import Audio, Encoding, encode_video
from ivjax.errors import UserError

# Now and then a tone, or a sound of each event, or silence.
DemoSounds = Literal["tones", "events", "none"]
# One to three groups of shapes, or always two, one after the other: which is first, no single frame tells.
DemoScenes = Literal["any", "pairs"]

_VERSION = 1  # of what is drawn; another one gives other videos, with other ids
_ENCODING = Encoding(crf=20, gop=24, preset="superfast")
_SIZES = ((128, 96), (112, 112), (144, 80))  # width, height
_FPS = (8, 10, 12)
_SHORTEST, _LONGEST = 2.0, 60.0  # seconds of a clip
_LONG = 0.15  # of the clips last 10 to 20 s, the others less than 10 s
_FILLERS = 0.15  # of the clips have a still stretch before them
_WITH_SOUND = 0.35  # of the videos
_ASKED = 6  # most questions about a clip
_SHUFFLED = 0.05  # of the training rows have the captions of something else


@dataclass(frozen=True)
class Shot:
    """The scene that the video shows from frame `start` on. A filler does not move and has no captions.

    Attributes:
        start: frame of the video.
        scene: what is seen and heard.
        captions: texts about `told`.
        score: similarity of both.
        pitch: what sounds are scaled by.
        told: the scene that captions are about (None: there are none).
        heard: texts about its sounds alone.
    """

    start: int
    scene: Scene
    captions: tuple[SceneCaption, ...]
    score: float = 0.0
    pitch: float = 1.0
    told: Scene | None = None
    heard: tuple[str, ...] = ()

    def sound(self) -> np.ndarray:
        """Returns what is heard: (n,) int16."""
        if self.scene.sound == EVENT_SOUNDS:
            return event_sound(self.scene, self.pitch)
        return tone(self.scene.sound, self.scene.frames / self.scene.fps, self.pitch)


# random numbers, frames, frames per second, tint, whether held out, sound -> a scene
SceneDrawer = Callable[[np.random.Generator, int, int, Tint, bool, str], Scene]


@dataclass(frozen=True)
class DemoKind:
    """The kind of clips that a corpus has.

    Attributes:
        sounds: what is heard; the pictures are the same.
        longest: seconds of the longest clip (None: 20, and 85 % last less than 10).
        scenes: what a clip shows.
    """

    sounds: DemoSounds = "tones"
    longest: float | None = None
    scenes: DemoScenes = "any"

    def __str__(self) -> str:
        """What differs from the usual kind; it is part of the names of videos."""
        values = ((getattr(self, each.name), each.default) for each in fields(self))
        return "".join(f" {value}" for value, usual in values if value != usual)

    def check(self) -> None:
        """Raises UserError for clips that cannot be drawn."""
        if self.longest is not None and not _SHORTEST < self.longest <= _LONGEST:
            raise UserError(
                f"no clips of at most {self.longest:g} s can be drawn; choose more than {_SHORTEST:g} s, "
                f"and up to {_LONGEST:g} s"
            )

    @property
    def draw(self) -> SceneDrawer:
        """What draws its scenes."""
        return draw_pair if self.scenes == "pairs" else draw_scene


@dataclass(frozen=True)
class DemoVideo:
    """Video `number` of a seed, with `clips` clips."""

    seed: int
    number: int
    clips: int
    held_out: bool
    kind: DemoKind = DemoKind()

    @property
    def id(self) -> str:
        """An id in YouTube's form: 11 letters, digits, - and _."""
        text = f"{_VERSION} {self.seed} {self.number} {self.clips} {self.held_out}{self.kind}"
        return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())[:11].decode()

    def rows(self) -> list[dict[str, Any]]:
        """Returns the annotation of every clip."""
        return [self._row(shot) for shot in self._told]

    def descriptions(self) -> list[dict[str, Any]]:
        """Returns a conversation about each clip that tells all that happens."""
        return [
            {"id": f"{self.id}_{number}", **self._place(shot), "conversations": description_turns(shot.scene)}
            for number, shot in enumerate(self._told)
        ]

    def dialogues(self) -> list[dict[str, Any]]:
        """Returns conversations about the clips: to train on, of a few questions each; to test on, of one."""
        # Numbers of their own, so that videos and captions are those of versions without questions.
        rng = np.random.default_rng([_VERSION, self.seed, self.number, self.held_out, 1])
        rows: list[dict[str, Any]] = []
        for shot in self._told:
            scene = shot.scene
            place = {"id": f"{self.id}_{len(rows)}", **self._place(shot)}
            asked = questions_of(rng, scene)[:_ASKED]
            if not self.held_out:
                rows.append({**place, "conversations": training_turns(rng, asked, scene)})
                continue
            for question in asked:
                options, letter = choices_of(rng, question)
                said = {"question": question.text, "options": options, "answer": letter}
                rows.append({**place, "id": f"{self.id}_{len(rows)}", **said, "type": question.kind})
        return rows

    def encode(self) -> bytes:
        """Returns the mp4."""
        film = self._film
        audio = None
        if film.has_sound:
            audio = Audio(np.concatenate([shot.sound() for shot in film.shots]), RATE)
        return encode_video(film.frames(), Fraction(film.fps), _ENCODING, audio)

    @property
    def _told(self) -> "list[Shot]":
        return [shot for shot in self._film.shots if shot.captions]

    def _place(self, shot: Shot) -> dict[str, Any]:
        """The video that a conversation is about, and the times of its clip."""
        begin, seconds = (Fraction(frames, shot.scene.fps) for frames in (shot.start, shot.scene.frames))
        times = {"duration": float(seconds), "start": float(begin), "end": float(begin + seconds)}
        return {"video": f"{self.id}.mp4", **times}

    @functools.cached_property
    def _film(self) -> "_Film":
        film = _draw_film(self)
        return film if self.kind.sounds == "tones" else _with_other_sounds(self, film)

    def _row(self, shot: Shot) -> dict[str, Any]:
        scene = shot.scene
        row = {
            "YoutubeID": self.id,
            "Start_timestamp": timestamp(Fraction(shot.start, scene.fps)),
            "End_timestamp": timestamp(Fraction(shot.start + scene.frames, scene.fps)),
            "Caption": shot.captions[0].text,
            "Aesthetic_Score": round(3 + 4 * scene.contrast(), 4),
            "UMT_Score": round(shot.score, 4),
            "Attributes": scene.attributes(),
            "label": list(COLOURS).index(scene.events[0].colour),
        }
        if len(shot.captions) > 1:
            row["Captions"] = [caption.text for caption in shot.captions]
        if shot.heard:
            row["Audio_Captions"] = list(shot.heard)
        return row


@dataclass(frozen=True)
class _Film:
    width: int
    height: int
    fps: int
    has_sound: bool
    shots: tuple[Shot, ...]

    def frames(self) -> Iterator[np.ndarray]:
        for shot in self.shots:
            yield from draw_frames(shot.scene, self.width, self.height)


def timestamp(seconds: Fraction) -> str:
    """Returns HH:MM:SS.mmm, to the nearest millisecond."""
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}.{whole % 1000:03}"


def _draw_film(source: DemoVideo) -> _Film:
    # From the video's number and not one after the other: any process may draw any video.
    rng = np.random.default_rng([_VERSION, source.seed, source.number, source.held_out])
    width, height = pick(rng, _SIZES)
    fps = pick(rng, _FPS)
    has_sound = bool(rng.random() < _WITH_SOUND)
    tint = Tint(bool(rng.integers(2)), bool(rng.integers(2)))
    shots: list[Shot] = []
    start = 0
    before = (("filler", "clip") if rng.random() < _FILLERS else ("clip",) for _ in range(source.clips))
    for kind in itertools.chain.from_iterable(before):
        if kind == "filler":
            shots.append(_filler(rng, start, fps, tint))
        else:
            shots.append(_clip(rng, start, fps, tint, source, has_sound))
        start += shots[-1].scene.frames
        # So that each cut can be seen, also by the detector of shots.
        tint = tint.opposite()
    return _Film(width, height, fps, has_sound, tuple(shots))


def _with_other_sounds(source: DemoVideo, film: _Film) -> _Film:
    """Returns the same pictures with the sounds of their events or none, and captions that tell of both."""
    # Numbers of their own, so that the pictures stay those of the other kind of sounds.
    rng = np.random.default_rng([_VERSION, source.seed, source.number, source.held_out, 2])
    heard = source.kind.sounds == "events"
    sound = EVENT_SOUNDS if heard else "none"
    return replace(film, has_sound=heard, shots=tuple(_sounding(rng, shot, sound) for shot in film.shots))


def _sounding(rng: np.random.Generator, shot: Shot, sound: str) -> Shot:
    scene = replace(shot.scene, sound=sound)
    if shot.told is None:
        return replace(shot, scene=scene)
    told, wanted = replace(shot.told, sound=sound), len(shot.captions)
    captions = write_captions(rng, told, wanted)
    return replace(
        shot,
        scene=scene,
        captions=tuple(captions),
        score=_similarity(scene, told, captions[0].level),
        heard=tuple(write_sound_captions(rng, told, wanted)) if sound == EVENT_SOUNDS else (),
    )


def _clip(
    rng: np.random.Generator, start: int, fps: int, tint: Tint, source: DemoVideo, has_sound: bool
) -> Shot:
    sound = pick(rng, SOUNDS) if has_sound and rng.random() < 0.75 else "none"
    frames, draw = _frames(rng, fps, source.kind.longest), source.kind.draw
    scene = draw(rng, frames, fps, tint, source.held_out, sound)
    shuffled = not source.held_out and rng.random() < _SHUFFLED
    told = _unlike(rng, scene, tint, draw) if shuffled else scene
    captions = write_captions(rng, told, int(rng.integers(1, 5)))
    score = _similarity(scene, told, captions[0].level)
    return Shot(start, scene, tuple(captions), score, float(rng.uniform(0.85, 1.15)), told)


def _filler(rng: np.random.Generator, start: int, fps: int, tint: Tint) -> Shot:
    scene = Scene((), "single", draw_background(rng, tint), "none", int(rng.integers(fps, 3 * fps)), fps)
    return Shot(start, scene, ())


def _frames(rng: np.random.Generator, fps: int, longest: float | None) -> int:
    """Draws the number of frames of a clip; short clips have less than 10 s."""
    if longest is not None:
        return int(rng.uniform(_SHORTEST, longest) * fps)
    if rng.random() < _LONG:
        return int(rng.integers(10 * fps, 20 * fps + 1))
    return int((_SHORTEST + 8 * rng.random() ** 1.5) * fps)


def _unlike(rng: np.random.Generator, scene: Scene, tint: Tint, draw: SceneDrawer) -> Scene:
    """Draws a scene whose events share no colour, shape or motion with another scene."""
    while True:
        other = draw(rng, scene.frames, scene.fps, tint, False, "none")
        pairs = [(a, b) for a in scene.events for b in other.events]
        if all(a.colour != b.colour and a.shape != b.shape and a.motion != b.motion for a, b in pairs):
            return other


def _similarity(seen: Scene, told: Scene, level: int) -> float:
    """Returns 0.1 to 0.5: the share of attributes that the caption says, lower for one that omits many."""
    true, said = seen.attributes(), told.attributes()
    names = [name for name in true if not name.startswith(("begins", "ends", "events", "sound"))]
    agreeing = sum(true[name] == said.get(name) for name in names) / len(names)
    return 0.1 + 0.4 * agreeing * (0.8 + 0.1 * level)
