"""Scores multiple-choice questions about videos: accuracy, beside chance, of all and by kind."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ivjax.errors import UserError
from ivjax.evals.dialogue.asking import Answered, Asking, ask, seer_of
from ivjax.evals.dialogue.facts import facts_of_dialogue
from ivjax.evals.dialogue.kept_answers import KeptAnswer
from ivjax.evals.dialogue.letters import is_right, letter_of, plain_words, strict_choice
from ivjax.evals.dialogue.prompts import PROTOCOLS, ChoiceProtocol, Wording, choice_protocol
from ivjax.evals.dialogue.questions import EvalQuestion, accuracies_by, check_kinds, open_questions
from ivjax.evals.items import UnscoredClip
from ivjax.evals.result import Result
from ivjax.evals.suites.dialogue import AnswerBy, VideoQuestions
from ivjax.evals.vectors import Setting


def score(setting: Setting[Any], suite: VideoQuestions) -> Result:
    """Returns accuracies in percent; open questions count by exact match, apart from the others."""
    questions = open_questions(setting.data)
    name = suite.protocol or (questions.kind if questions.kind in PROTOCOLS else "plain")
    protocol, by = choice_protocol(name), suite.by or setting.encoder.by

    def word(question: EvalQuestion) -> tuple[Wording, tuple[str, ...]]:
        if not question.options:
            return Wording("", question.text), ()
        return compared(question, protocol, by)

    check_kinds(suite.only, questions)
    asked = [
        each
        for each in enumerate(questions)
        if isinstance(each[1], UnscoredClip) or each[1].is_of(suite.only)
    ]
    asking = Asking(asked, word, seer_of(suite, questions), by, {"protocol": name})
    answered = ask(setting, suite, asking)
    if not answered.questions:
        raise UserError(f"{setting.data.path} has no question that could be answered")
    facts = facts_of_dialogue(setting, suite, len(answered.questions)) | {
        "protocol": f"{name}: {protocol.about}" + ("" if protocol.confirmed else ", by no source at hand"),
        "answers by": ANSWERS_BY[by],
        "extraction": _extraction(suite, protocol, by),
        "kinds of question": list(suite.only) or None,
    }
    pairs = [pair for pair in zip(answered.questions, answered.answers, strict=True) if pair[0].options]
    metrics = _metrics(answered, pairs, suite, protocol)
    groups = [group for name in protocol.groups for group in _groups(pairs, suite, protocol, name)]
    if protocol.mean_of and (means := [row["accuracy"] for row in groups if row["by"] == protocol.mean_of]):
        metrics["mean_of_kinds"] = round(float(np.mean(means)), 2)
    return Result(suite.name, facts, metrics, answered.unscored, by_group=tuple(groups))


ANSWERS_BY: Mapping[AnswerBy, str] = {
    "generation": "greedy generation",
    "likelihood": "likelihood of the letters",
    "text": "likelihood of the options' words as whole answers; the question is asked without its options",
}


def compared(
    question: EvalQuestion, protocol: ChoiceProtocol, by: AnswerBy
) -> tuple[Wording, tuple[str, ...]]:
    """Returns the words of a multiple-choice question, and the answers whose likelihood is compared."""
    if by == "text":
        return Wording("", question.text), question.options
    letters = tuple(protocol.letters.format(letter_of(n)) for n in range(len(question.options)))
    return protocol.wording(question.text, question.options), letters if by == "likelihood" else ()


def said(question: EvalQuestion, answer: KeptAnswer, protocol: ChoiceProtocol) -> str:
    """Returns the reply that rules read; behind a prompt that ends with a bracket, the line with it."""
    reply: str = answer["reply"]
    begin = protocol.wording(question.text, question.options).begin
    return "(" + reply.split("\n")[0] if begin.endswith("(") else reply


def chosen(question: EvalQuestion, answer: KeptAnswer, protocol: ChoiceProtocol) -> int | None:
    """Returns the number of the option that an answer names, read strictly; None if it names none."""
    if "log_likelihoods" in answer:
        return int(np.argmax(answer["log_likelihoods"]))
    return strict_choice(said(question, answer, protocol), question.options)


def is_right_strictly(question: EvalQuestion, answer: KeptAnswer, protocol: ChoiceProtocol) -> bool:
    """Whether an answer names the right option and nothing else."""
    return chosen(question, answer, protocol) == question.right


def is_right_leniently(question: EvalQuestion, answer: KeptAnswer, protocol: ChoiceProtocol) -> bool | None:
    """Whether the original would count an answer as right; None: it would leave the question out."""
    if "log_likelihoods" in answer:
        return is_right_strictly(question, answer, protocol)
    reply = said(question, answer, protocol)
    # Lmms-eval takes the mean over the questions that got a reply at all.
    if protocol.rule == "lone_letter" and not reply:
        return None
    return is_right(protocol.rule, reply, question.options, question.right)


_Pairs = Sequence[tuple[EvalQuestion, KeptAnswer]]  # questions of several options with their answers


def _metrics(
    answered: Answered, pairs: _Pairs, suite: VideoQuestions, protocol: ChoiceProtocol
) -> dict[str, float]:
    metrics = _accuracy(pairs, suite, protocol) if pairs else {}
    if any("reply" in answer for _, answer in pairs):
        unclear = [chosen(*pair, protocol) is None for pair in pairs]
        metrics |= {
            "strict": _percent([is_right_strictly(*pair, protocol) for pair in pairs]),
            "lenient": _percent([is_right_leniently(*pair, protocol) for pair in pairs]),
            "unclear": _percent(unclear),
        }
    exact = [
        plain_words(answer["reply"]) == plain_words(question.answer)
        for question, answer in zip(answered.questions, answered.answers, strict=True)
        if not question.options
    ]
    return metrics | ({"exact": _percent(exact)} if exact else {})


def _accuracy(pairs: _Pairs, suite: VideoQuestions, protocol: ChoiceProtocol) -> dict[str, float]:
    rule = is_right_strictly if suite.extraction == "strict" else is_right_leniently
    accuracy = _percent([rule(*pair, protocol) for pair in pairs])
    # The mean of the shares, because questions may have different numbers of options.
    chance = 100 * float(np.mean([1 / len(question.options) for question, _ in pairs]))
    return {"accuracy": accuracy, "chance": round(chance, 2), "times_chance": round(accuracy / chance, 3)}


def _groups(
    pairs: _Pairs, suite: VideoQuestions, protocol: ChoiceProtocol, name: str
) -> list[Mapping[str, Any]]:
    def accuracy(some: list[int]) -> dict[str, float]:
        return _accuracy([pairs[place] for place in some], suite, protocol)

    return accuracies_by(name, [question for question, _ in pairs], accuracy)


def _extraction(suite: VideoQuestions, protocol: ChoiceProtocol, by: str) -> str:
    if by != "generation":
        return "none: the likeliest option is the answer"
    rules = {
        "first_word": "lenient: the first words, one of which is part of the other (VideoChat2)",
        "lone_letter": "lenient: the first letter from A to E that stands alone (lmms-eval)",
        "any_letter": "lenient: the first of the letters A to D (Video-MME)",
    }
    strict = "strict: a letter, its option's words, or both, and nothing else"
    return strict if suite.extraction == "strict" else rules[protocol.rule]


def _percent(values: Sequence[bool | None]) -> float:
    """Returns the share of those that count, in percent; 0 if none does."""
    counted = [value for value in values if value is not None]
    return round(100 * float(np.mean(counted)), 2) if counted else 0.0
