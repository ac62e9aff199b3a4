"""Questions about scenes of the demo corpus, made of what was drawn, with right and wrong answers."""

import string
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ivjax.data_pipelines.demo.background import BACKGROUNDS
from ivjax.data_pipelines.demo.grammar import MOTION_WORDS
from ivjax.data_pipelines.demo.scene import COLOURS, ENTRANCES, MOTIONS, SHAPES, Event, Scene, pick

CHOICES = 4
# Kinds of question for which one frame is not enough.
OF_TIME = ("motion", "where", "order", "when")
_SIDES = dict(zip(ENTRANCES, ("from the left", "from the right", "from above", "from below"), strict=True))
_TIMES = ("at the beginning", "in the middle", "at the end", "never")
_MULTIPLE = 0.7  # of the questions to train on
_NUMBERS = ("one", "two", "three", "four")


class SceneQuestion(NamedTuple):
    """A question about a scene.

    Attributes:
        kind: what it is about: what, colour, number, background, motion, where, order or when.
        text: the question.
        answer: the right answer.
        wrong: what else could be answered, CHOICES - 1 of them at least.
    """

    kind: str
    text: str
    answer: str
    wrong: tuple[str, ...]


class Choices(NamedTuple):
    """The options of a multiple-choice question, and the letter of the right one."""

    options: tuple[str, ...]
    letter: str


def questions_of(rng: np.random.Generator, scene: Scene) -> list[SceneQuestion]:
    """Returns all questions that a scene answers, in random order."""
    found = [question for event in scene.events for question in _about(event, scene)]
    found += [*_about_order(rng, scene), *_about_times(rng, scene)]
    pattern = scene.background.pattern
    found.append(
        SceneQuestion("background", "What is the background like?", pattern, _others(BACKGROUNDS, pattern))
    )
    return [found[place] for place in rng.permutation(len(found))]


def _about(event: Event, scene: Scene) -> Iterator[SceneQuestion]:
    several = event.count > 1
    is_, does = ("are", "do") if several else ("is", "does")
    name = f"the {event.colour} {_noun(event.shape, several)}"
    colours = Counter(other.colour for other in scene.events)
    shapes = Counter(other.shape for other in scene.events)
    if colours[event.colour] == 1:
        things = f"{event.colour} things" if several else f"{event.colour} thing"
        yield SceneQuestion(
            "what", f"What shape {is_} the {things}?", event.shape, _others(SHAPES, event.shape)
        )
    if shapes[event.shape] == 1:
        asked = f"What colour {is_} the {_noun(event.shape, several)}?"
        yield SceneQuestion("colour", asked, event.colour, _others(COLOURS, event.colour))
    number = _NUMBERS[event.count - 1]
    plural = f"{event.colour} {_noun(event.shape, True)}"
    yield SceneQuestion("number", f"How many {plural} are there?", number, _others(_NUMBERS, number))
    if event.motion in _SIDES:
        side = _SIDES[event.motion]
        yield SceneQuestion(
            "where", f"From where {does} {name} come?", side, _others(tuple(_SIDES.values()), side)
        )
    motion = _verb(event.motion, several)
    wrong = tuple(_verb(other, several) for other in MOTIONS if other != event.motion)
    yield SceneQuestion("motion", f"What {does} {name} do?", motion, wrong)


def _about_order(rng: np.random.Generator, scene: Scene) -> Iterator[SceneQuestion]:
    """Yields what comes first and last, of events that follow each other."""
    if scene.order != "then":
        return
    names = [_group(event) for event in scene.events]
    if len(set(names)) < len(names):
        return
    strangers = _strangers(rng, scene, CHOICES - 2)
    for word, place in (("first", 0), ("last", -1)):
        # What comes at another time is a wrong answer, and the best one.
        wrong = (*_others(names, names[place]), *strangers)
        yield SceneQuestion("order", f"What comes {word}?", names[place], wrong[: CHOICES - 1])


def _about_times(rng: np.random.Generator, scene: Scene) -> Iterator[SceneQuestion]:
    if scene.order != "then":
        return
    middle = len(scene.events) - 2
    times = [_TIMES[0], *[_TIMES[1]] * middle, _TIMES[2]]
    asked = dict(zip(map(_group, scene.events), times, strict=True))
    asked |= dict.fromkeys(_strangers(rng, scene, 1), _TIMES[3])
    for group, time in asked.items():
        does = "does" if group.startswith("one") else "do"
        yield SceneQuestion("when", f"When {does} {group} appear?", time, _others(_TIMES, time))


def _strangers(rng: np.random.Generator, scene: Scene, wanted: int) -> list[str]:
    """Returns groups that are not in a scene, by colour and shape."""
    there = {(event.colour, event.shape) for event in scene.events}
    found: list[str] = []
    while len(found) < wanted:
        colour, shape = pick(rng, list(COLOURS)), pick(rng, SHAPES)
        if (colour, shape) in there:
            continue
        there.add((colour, shape))
        number = int(rng.integers(len(_NUMBERS)))
        found.append(f"{_NUMBERS[number]} {colour} {_noun(shape, number > 0)}")
    return found


def _group(event: Event) -> str:
    return f"{_NUMBERS[event.count - 1]} {event.colour} {_noun(event.shape, event.count > 1)}"


def _noun(shape: str, several: bool) -> str:
    plurals = {"cross": "crosses"}
    return plurals.get(shape, f"{shape}s") if several else shape


def _verb(motion: str, several: bool) -> str:
    one, many = MOTION_WORDS[motion][0]
    return many if several else one


def _others(words: Sequence[str] | Any, word: str) -> tuple[str, ...]:
    return tuple(other for other in words if other != word)


def choices_of(rng: np.random.Generator, question: SceneQuestion) -> Choices:
    """Returns the options of a question in random order."""
    wrong = rng.permutation(len(question.wrong))[: CHOICES - 1]
    options = [question.answer, *(question.wrong[place] for place in wrong)]
    order = rng.permutation(CHOICES)
    mixed = tuple(options[place] for place in order)
    return Choices(mixed, string.ascii_uppercase[mixed.index(question.answer)])


def training_turns(rng: np.random.Generator, questions: Sequence[SceneQuestion]) -> list[dict[str, str]]:
    """Returns the turns of a conversation in LLaVA's form; most questions are multiple choice."""
    turns: list[dict[str, str]] = []
    for question in questions:
        asked, answer = question.text, question.answer
        if rng.random() < _MULTIPLE:
            choices = choices_of(rng, question)
            lettered = [
                f"({letter}) {text}"
                for letter, text in zip(string.ascii_uppercase, choices.options, strict=False)
            ]
            asked = "\n".join([asked, *lettered])
            answer = f"({choices.letter}) {answer}"
        mark = "" if turns else "<video>\n"
        turns += [{"from": "human", "value": mark + asked}, {"from": "gpt", "value": answer}]
    return turns
