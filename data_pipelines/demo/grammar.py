"""Captions of a scene in many wordings. Some leave things out; none says anything false."""

from typing import NamedTuple

import numpy as np

from ivjax.data_pipelines.demo.scene import EVENT_SOUNDS, SOUND_OF, Event, Scene, pick

# Every word for a thing has the same meaning; verbs and nouns as (one, several).
COLOUR_WORDS = {
    "red": ("red",),
    "green": ("green",),
    "blue": ("blue",),
    "yellow": ("yellow",),
    "purple": ("purple", "violet"),
    "cyan": ("cyan", "turquoise"),
    "orange": ("orange",),
    "white": ("white",),
}
SHAPE_WORDS = {
    "circle": (("circle", "circles"), ("disc", "discs")),
    "square": (("square", "squares"), ("box", "boxes")),
    "triangle": (("triangle", "triangles"),),
    "star": (("star", "stars"),),
    "cross": (("cross", "crosses"), ("plus sign", "plus signs")),
    "ring": (("ring", "rings"), ("hoop", "hoops")),
}
MOTION_WORDS = {
    "enters from the left": (
        ("enters from the left", "enter from the left"),
        ("comes in from the left side", "come in from the left side"),
        ("slides in from the left", "slide in from the left"),
    ),
    "enters from the right": (
        ("enters from the right", "enter from the right"),
        ("comes in from the right side", "come in from the right side"),
        ("slides in from the right", "slide in from the right"),
    ),
    "falls": (("falls", "fall"), ("drops from above", "drop from above"), ("comes down", "come down")),
    "rises": (("rises", "rise"), ("comes up from below", "come up from below"), ("climbs", "climb")),
    "grows": (("grows", "grow"), ("gets bigger", "get bigger"), ("becomes larger", "become larger")),
    "shrinks": (("shrinks", "shrink"), ("gets smaller", "get smaller")),
    "spins": (("spins", "spin"), ("rotates", "rotate"), ("turns round and round", "turn round and round")),
    "bounces": (("bounces", "bounce"), ("jumps up and down", "jump up and down")),
    "blinks": (("blinks", "blink"), ("flashes on and off", "flash on and off")),
    "loops": (("moves in a loop", "move in a loop"), ("goes along a round path", "go along a round path")),
}
SIZE_WORDS = {"small": ("small", "little"), "big": ("big", "large")}
SPEED_WORDS = {"slow": ("slowly", "at a slow pace"), "fast": ("quickly", "fast")}
COUNT_WORDS = {1: ("a", "one"), 2: ("two", "a pair of"), 3: ("three",), 4: ("four",)}
BACKGROUND_WORDS = {
    "plain": ("a plain background", "a background of one colour"),
    "striped": ("a striped background", "stripes"),
    "chequered": ("a chequered background", "a chessboard pattern"),
    "spotted": ("a spotted background", "a background full of dots"),
    "shaded": ("a shaded background", "a smooth gradient"),
}
SOUND_WORDS = {
    "high": ("a high tone sounds", "a high note is heard"),
    "low": ("a low tone sounds", "a deep note is heard"),
    "beeping": ("something beeps", "a beeping sound is heard"),
    "none": (),
}
# As clauses, which are joined like those of what is seen.
HEARD_WORDS = {
    "rumble": ("something rumbles", "a low rumble is heard"),
    "hiss": ("something hisses", "a sharp hiss is heard"),
    "falling whistle": ("a falling whistle sounds", "a whistle goes down"),
    "rising whistle": ("a rising whistle sounds", "a whistle goes up"),
    "buzz": ("a deep buzz swells", "something buzzes louder"),
    "bell": ("a bell rings", "a high bell is struck"),
    "whirr": ("something whirrs", "a whirring is heard"),
    "knocks": ("something knocks", "low knocks are heard"),
    "beeps": ("something beeps", "short beeps are heard"),
    "siren": ("a siren wails", "a wailing siren is heard"),
}
_OPENINGS = ("in this clip ", "the video shows how ", "we see how ")
_LEVELS = {0: 0.3, 1: 0.45, 2: 0.25}  # how much a caption tells, and how many do


class SceneCaption(NamedTuple):
    """A caption and its level of detail: 0 the bare events, 1 also how and where, 2 everything."""

    text: str
    level: int


def write_captions(rng: np.random.Generator, scene: Scene, wanted: int) -> list[SceneCaption]:
    """Returns up to `wanted` different captions of a scene, at least one."""
    captions: dict[str, SceneCaption] = {}
    for _ in range(wanted):
        level = pick(rng, list(_LEVELS), list(_LEVELS.values()))
        caption = SceneCaption(_sentence(rng, scene, level), level)
        captions.setdefault(caption.text, caption)
    return list(captions.values())


def write_sound_captions(rng: np.random.Generator, scene: Scene, wanted: int) -> list[str]:
    """Returns up to `wanted` different captions of what is heard of a scene's events, at least one."""
    return list(dict.fromkeys(_heard(rng, scene) for _ in range(wanted)))


def _heard(rng: np.random.Generator, scene: Scene) -> str:
    clauses = [pick(rng, HEARD_WORDS[SOUND_OF[event.motion]]) for event in scene.events]
    return _joined(rng, clauses, scene.order)


def _sentence(rng: np.random.Generator, scene: Scene, level: int) -> str:
    clauses = [_clause(rng, event, level) for event in scene.events]
    text = _joined(rng, clauses, scene.order)
    if level == 2 or (level == 1 and len(clauses) == 1):
        place = pick(rng, BACKGROUND_WORDS[scene.background.pattern])
        text += pick(rng, (f" in front of {place}", f" over {place}"))
    if level == 2 and scene.sound == EVENT_SOUNDS:
        text += f" and {_heard(rng, scene)}"
    elif level == 2 and (sounds := SOUND_WORDS[scene.sound]):
        text += f" and {pick(rng, sounds)}"
    if level == 2 and rng.random() < 0.5:
        text = pick(rng, _OPENINGS) + text
    return text


def _clause(rng: np.random.Generator, event: Event, level: int) -> str:
    """Returns the clause of one event, such as "two small red discs come down slowly"."""
    several = event.count > 1
    words = [pick(rng, COLOUR_WORDS[event.colour]), pick(rng, SHAPE_WORDS[event.shape])[several]]
    if level and event.size in SIZE_WORDS:
        words.insert(0, pick(rng, SIZE_WORDS[event.size]))
    count = pick(rng, COUNT_WORDS[event.count])
    words.insert(0, "an" if count == "a" and words[0][0] in "aeiou" else count)
    words.append(pick(rng, MOTION_WORDS[event.motion])[several])
    if level and event.speed in SPEED_WORDS:
        words.append(pick(rng, SPEED_WORDS[event.speed]))
    return " ".join(words)


def _joined(rng: np.random.Generator, clauses: list[str], order: str) -> str:
    if order == "together":
        first, second = rng.permutation(clauses)
        return pick(rng, (f"{first} while {second}", f"{first} and at the same time {second}"))
    if len(clauses) == 2:
        first, second = clauses
        ways = (f"{first}, then {second}", f"first {first}, after that {second}", f"after {first}, {second}")
        return pick(rng, ways)
    return pick(rng, (", then ", ", after that "), (0.7, 0.3)).join(clauses)
