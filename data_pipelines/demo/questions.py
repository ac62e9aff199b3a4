"""Questions about scenes of the demo corpus, made of what was drawn, with right and wrong answers."""

import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ivjax.data_pipelines.demo.background import BACKGROUNDS
from ivjax.data_pipelines.demo.grammar import MOTION_WORDS
from ivjax.data_pipelines.demo.scene import COLOURS, ENTRANCES, MOTIONS, SHAPES, Event, Scene, pick

CHOICES = 4  # at most: of what is asked about times, there are three in a scene of two events
# Kinds of question for which one frame is not enough.
OF_TIME = ("motion", "where", "order", "when")
_SIDES = dict(zip(ENTRANCES, ("from the left", "from the right", "from above", "from below"), strict=True))
_TIMES = ("at the beginning", "in the middle", "at the end", "never")
_MULTIPLE = 0.1  # of the questions to train on: an option list is as long as three open questions
_DESCRIBED = 0.5  # of the conversations to train on are a description
_NUMBERS = ("one", "two", "three", "four")
# Of the questions about numbers, how many are asked: there are more groups of one than of four, so that the
# likeliest answer would be known without the video.
_NUMBERS_ASKED = {1: 0.09, 2: 0.28, 3: 0.56, 4: 1.0}


class SceneQuestion(NamedTuple):
    """A question about a scene.

    Attributes:
        kind: what it is about: what, colour, number, background, motion, where, order or when; of groups
            that are alone in the picture all that happens: events.
        text: the question.
        answer: the right answer.
        wrong: what else could be answered, two at least.
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
    """Returns the questions that a scene answers, in random order but one of each kind first.

    Of groups that are alone in the picture one is asked, for all that happens.
    """
    if scene.alone:
        return [_about_events(rng, scene)]
    found = [question for event in scene.events for question in _about(rng, event, scene)]
    found += [*_about_order(rng, scene), *_about_times(rng, scene)]
    pattern = scene.background.pattern
    found.append(
        SceneQuestion("background", "What is the background like?", pattern, _others(BACKGROUNDS, pattern))
    )
    return _kinds_in_turn([found[place] for place in rng.permutation(len(found))])


def _kinds_in_turn(questions: Sequence[SceneQuestion]) -> list[SceneQuestion]:
    """Returns the first question of each kind, then the second ones, and so on."""
    asked: Counter[str] = Counter()
    rounds: list[tuple[int, SceneQuestion]] = []
    for question in questions:
        rounds.append((asked[question.kind], question))
        asked[question.kind] += 1
    return [question for _, question in sorted(rounds, key=lambda pair: pair[0])]


def _about(rng: np.random.Generator, event: Event, scene: Scene) -> Iterator[SceneQuestion]:
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
    if rng.random() < _NUMBERS_ASKED[event.count]:
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
    possible = tuple(dict.fromkeys((*times, _TIMES[3])))
    asked = dict(zip(map(_group, scene.events), times, strict=True))
    asked |= dict.fromkeys(_strangers(rng, scene, 1), _TIMES[3])
    for group, time in asked.items():
        does = "does" if group.startswith("one") else "do"
        yield SceneQuestion("when", f"When {does} {group} appear?", time, _others(possible, time))


def _about_events(rng: np.random.Generator, scene: Scene) -> SceneQuestion:
    """Returns the question for all that happens; wrong are the other order, and another colour for either."""
    right = description_of(scene)
    first, second = scene.events
    others = [colour for colour in COLOURS if colour not in (first.colour, second.colour)]
    one, another = (others[place] for place in rng.choice(len(others), 2, replace=False))
    wrong = ((second, first), (replace(first, colour=one), second), (first, replace(second, colour=another)))
    told = (description_of(replace(scene, events=events)).answer for events in wrong)
    return SceneQuestion("events", right.text, right.answer, tuple(told))


def _strangers(rng: np.random.Generator, scene: Scene, wanted: int) -> list[str]:
    """Returns groups that are not in a scene, by colour and shape; as large as those that are."""
    there = {(event.colour, event.shape) for event in scene.events}
    found: list[str] = []
    while len(found) < wanted:
        colour, shape = pick(rng, list(COLOURS)), pick(rng, SHAPES)
        if (colour, shape) in there:
            continue
        there.add((colour, shape))
        count = pick(rng, scene.events).count
        found.append(f"{_NUMBERS[count - 1]} {colour} {_noun(shape, count > 1)}")
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
    order = rng.permutation(len(options))
    mixed = tuple(options[place] for place in order)
    return Choices(mixed, string.ascii_uppercase[mixed.index(question.answer)])


def description_of(scene: Scene) -> SceneQuestion:
    """Returns the open question for all that happens, answered in the words of the other questions."""
    between = ", then " if scene.order == "then" else " and "
    events = between.join(f"{_group(event)} {_verb(event.motion, event.count > 1)}" for event in scene.events)
    answer = f"{events}, in front of a {scene.background.pattern} background"
    return SceneQuestion("description", "What happens in the video?", answer, ())


def description_turns(scene: Scene) -> list[dict[str, str]]:
    """Returns the turns of a conversation that is the description alone."""
    description = description_of(scene)
    return _turns_of(f"<video>\n{description.text}", description.answer)


def training_turns(
    rng: np.random.Generator, questions: Sequence[SceneQuestion], scene: Scene
) -> list[dict[str, str]]:
    """Returns the turns of a conversation to train on, in LLaVA's form.

    Half of the conversations are the scene's description alone, as that answers all questions; so are those
    of groups that are alone in the picture.
    """
    described = scene.alone or rng.random() < _DESCRIBED
    return description_turns(scene) if described else question_turns(rng, questions)


def question_turns(rng: np.random.Generator, questions: Sequence[SceneQuestion]) -> list[dict[str, str]]:
    """Returns questions and answers in LLaVA's form; some are multiple choice.

    No question is answered by what was said before it: "What do the red stars do?" tells what shape the red
    things are, which is not asked any more.
    """
    turns: list[dict[str, str]] = []
    said = ""
    for question in (questions[place] for place in rng.permutation(len(questions))):
        asked, answer = question.text, question.answer
        if answer in said:
            continue
        said += f"{asked} {answer} "
        if rng.random() < _MULTIPLE:
            choices = choices_of(rng, question)
            lettered = [
                f"({letter}) {text}"
                for letter, text in zip(string.ascii_uppercase, choices.options, strict=False)
            ]
            asked = "\n".join([asked, *lettered])
            answer = f"({choices.letter}) {answer}"
        mark = "" if turns else "<video>\n"
        turns += _turns_of(mark + asked, answer)
    return turns


def _turns_of(asked: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
