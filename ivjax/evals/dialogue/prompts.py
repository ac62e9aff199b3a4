"""Prompts of the public tests, word by word, and by which rule the originals read the replies."""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ivjax.errors import UserError, nearest
from ivjax.evals.dialogue.letters import ReplyRule

_BEST_OPTION = "\nOnly give the best option."
_DIRECTLY = "Answer with the option's letter from the given choices directly."


class Wording(NamedTuple):
    """What a model is told of a question.

    Attributes:
        system: instruction before the video.
        question: the user's words.
        begin: words that the answer begins with.
    """

    system: str
    question: str
    begin: str = ""


@dataclass(frozen=True)
class ChoiceProtocol:
    """The rules of a multiple-choice test.

    Attributes:
        about: whose prompt it is.
        wording: makes the prompt of a question and its options.
        rule: how the original reads replies.
        letters: what stands for an option where options are compared by their likelihood: `({})` or `{}`.
        groups: attributes by which results are told apart.
        mean_of: the attribute over whose values the original takes the mean of accuracies; "": it does not.
        confirmed: whether a source at hand has the prompt.
    """

    about: str
    wording: Callable[[str, Sequence[str]], Wording]
    rule: ReplyRule
    letters: str = "({})"
    groups: tuple[str, ...] = ("question",)
    mean_of: str = ""
    confirmed: bool = True


def bracketed(question: str, options: Sequence[str]) -> Wording:
    """Returns the question with `(A) ...` lines below it, as conversations of corpora have it."""
    return Wording("", "\n".join([question, *_lines("({}) {}", options)]))


def mvbench(question: str, options: Sequence[str]) -> Wording:
    """Returns the prompt of VideoChat-Flash's form of lmms-eval."""
    lines = "".join(f"{line}\n" for line in _lines("({}) {}", options))
    return Wording("", f"Question: {question}\nOption:\n{lines}{_BEST_OPTION}")


def videochat2(question: str, options: Sequence[str]) -> Wording:
    """Returns the prompt of VideoChat2, whose answers begin with `Best option:(`."""
    lines = "\n".join(["Options:", *_lines("({}) {}", options)])
    system = (
        "Carefully watch the video and pay attention to the cause and sequence of events, the detail and "
        "movement of objects, and the action and pose of persons. Based on your observations, select the "
        "best option that accurately addresses the question.\n"
    )
    return Wording(system, f"Question: {question}\n{lines}{_BEST_OPTION}", "Best option:(")


def videomme(question: str, options: Sequence[str]) -> Wording:
    """Returns the prompt of Video-MME, whose options are `A. ...` lines."""
    before = (
        "These are the frames of a video. Select the best answer to the following multiple-choice question "
        "based on the video. Respond with only the letter (A, B, C, or D) of the correct option."
    )
    lines = "\n".join(["Option:", *_lines("{}. {}", options)])
    return Wording("", f"{before}\nQuestion: {question}\n{lines}\n{_DIRECTLY}")


def dotted(question: str, options: Sequence[str]) -> Wording:
    """Returns the question with `A. ...` lines, and what is asked for."""
    return Wording("", "\n".join([question, *_lines("{}. {}", options), _DIRECTLY]))


def niah(question: str, options: Sequence[str]) -> Wording:
    """Returns the prompt of VideoChat-Flash's needles, which ends with a bracket in the user's turn."""
    lines = "\n".join(_lines("({}) {}", options))
    return Wording("", f"{question}\nOptions: {lines}{_BEST_OPTION} Best option: (")


PROTOCOLS: Mapping[str, ChoiceProtocol] = {
    "plain": ChoiceProtocol(
        "the question and its options, as conversations to train on have them", bracketed, "lone_letter"
    ),
    "mvbench": ChoiceProtocol(
        "MVBench, as VideoChat-Flash is tested", mvbench, "lone_letter", mean_of="question"
    ),
    "videochat2": ChoiceProtocol(
        "MVBench, as VideoChat2 is tested", videochat2, "first_word", letters="{}", mean_of="question"
    ),
    "videomme": ChoiceProtocol("Video-MME", videomme, "any_letter", "{}", ("duration", "question")),
    "perception_test": ChoiceProtocol(
        "Perception Test", dotted, "lone_letter", "{}", ("question", "reasoning"), confirmed=False
    ),
    "longvideobench": ChoiceProtocol(
        "LongVideoBench", dotted, "lone_letter", "{}", ("duration", "question"), confirmed=False
    ),
    "mlvu": ChoiceProtocol("MLVU", mvbench, "lone_letter", mean_of="question", confirmed=False),
    "lvbench": ChoiceProtocol("LVBench, as VideoChat-Flash is tested", dotted, "lone_letter", "{}"),
    "niah": ChoiceProtocol("VideoChat-Flash's needles", niah, "lone_letter", "{}"),
}


def choice_protocol(name: str) -> ChoiceProtocol:
    """Returns the protocol of a name on the command line."""
    if name not in PROTOCOLS:
        hint = nearest(name, tuple(PROTOCOLS)) or f"; choose one of {', '.join(PROTOCOLS)}"
        raise UserError(f"there is no protocol {name!r} of multiple choice{hint}")
    return PROTOCOLS[name]


def charades_sta(sentence: str) -> Wording:
    """Returns the prompt of Charades-STA; the misspelt word is the original's."""
    before = (
        "Please find the visual event described by a sentence in the video, determining its starting and "
        "ending times. The format should be: 'The event happens in the start time - end time'. For example, "
        "The event 'person turn a light on' happens in the 24.3 - 30.4 seonds. Now I will give you the "
        "textual sentence: "
    )
    caption = sentence.removesuffix(".")
    return Wording("", f"{before}{caption}. Please return its start time and end time.")


def plain_moment(sentence: str) -> Wording:
    """Returns the sentence alone, as conversations to train on have it."""
    return Wording("", sentence)


MOMENTS: Mapping[str, Callable[[str], Wording]] = {"plain": plain_moment, "charades_sta": charades_sta}


def moment_wording(name: str) -> Callable[[str], Wording]:
    """Returns what makes the prompt of a sentence, by its name on the command line."""
    if name not in MOMENTS:
        hint = nearest(name, tuple(MOMENTS)) or f"; choose one of {', '.join(MOMENTS)}"
        raise UserError(f"there is no protocol {name!r} of moments{hint}")
    return MOMENTS[name]


def _lines(form: str, options: Sequence[str]) -> list[str]:
    return [form.format(letter, text) for letter, text in zip(string.ascii_uppercase, options, strict=False)]
