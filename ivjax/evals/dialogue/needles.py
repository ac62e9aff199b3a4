"""Scores the search for needles in long videos: accuracy by length and depth, and a heat map of it."""

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.data_pipelines.sources.benchmarks.listed_question import KIND
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError
from ivjax.evals.dialogue.answer_model import AnswerModel
from ivjax.evals.dialogue.asking import Answered, Asking, Numbered, Worded, ask, seer_of
from ivjax.evals.dialogue.choosing import ANSWERS_BY, compared, is_right_leniently, is_right_strictly
from ivjax.evals.dialogue.facts import facts_of_dialogue
from ivjax.evals.dialogue.haystacks import Haystack, drawn_seed, open_haystack
from ivjax.evals.dialogue.kept_answers import KeptAnswer
from ivjax.evals.dialogue.letters import plain_words
from ivjax.evals.dialogue.prompts import PROTOCOLS, ChoiceProtocol, Wording
from ivjax.evals.dialogue.questions import EvalQuestion, open_questions
from ivjax.evals.result import Result
from ivjax.evals.suites.dialogue import NeedleSearch
from ivjax.evals.vectors import Setting
from ivjax.generate.watching import Watched

_FRAMES, _DEPTH = "frames", "depth"  # attributes of a needle's question


def score(setting: Setting[Any], suite: NeedleSearch) -> Result:
    """Returns the percentage of needles that are found, of all and of each cell of length and depth."""
    model: AnswerModel = setting.encoder
    haystack, by = open_haystack(suite, setting.data), suite.by or model.by
    watch, protocol = _Watch(haystack), PROTOCOLS[haystack.protocol if haystack else "plain"]
    if haystack is None:
        questions = open_questions(setting.data)
        asked = _listed(list(enumerate(questions)), setting.data.path)
        see = seer_of(suite, questions, _frames)
    else:
        asked, see = _grid(suite, haystack, model.frames), watch.see

    def word(question: EvalQuestion) -> tuple[Wording, tuple[str, ...]]:
        if not question.options:
            return Wording("", question.text), ()
        return compared(question, protocol, by)

    answered = ask(setting, suite, Asking(asked, word, see, by, {}))
    if not answered.questions:
        raise UserError(f"{setting.data.path} has no needle whose video could be seen")
    scorer = _Scorer(answered, suite, protocol)
    cells = scorer.cells()
    metrics = scorer.metrics(cells)
    if suite.png is not None:
        _draw(suite.png, cells, metrics["accuracy"], setting)
    facts = facts_of_dialogue(setting, suite, len(answered.questions)) | {
        "frames": "of each haystack: all",
        "haystack": _haystack_words(suite, setting.data.path),
        "prompt": protocol.about,
        "needles": "a chain from the first frame to the last" if haystack and haystack.chained else "one",
        "answers by": ANSWERS_BY[by],
        "extraction": suite.extraction,
        "heat map": suite.png,
        "peak memory, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return Result(
        suite.name,
        facts,
        metrics,
        answered.unscored,
        by_group=(*cells, *scorer.kinds(), *watch.lengths(model)),
    )


def _grid(suite: NeedleSearch, haystack: Haystack, clip: int) -> list[Numbered]:
    """Returns a question for each length, depth and needle."""
    depths = [0.0] if haystack.chained else np.linspace(0, 1, suite.depths).tolist()
    found: list[Numbered] = []
    for length in suite.length:
        if length < clip:
            raise UserError(
                f"length={length} is shorter than a clip of the model, {clip} frames; make it longer"
            )
        for depth in depths:
            for needle in haystack.needles:
                where = {_FRAMES: str(length - length % clip), _DEPTH: f"{depth:.4g}"}
                question = replace(needle, media=(), attributes={**needle.attributes, **where})
                found.append((len(found), question))
    return found


def _listed(found: Sequence[Numbered], path: str) -> list[Numbered]:
    for _, each in found:
        if isinstance(each, EvalQuestion) and not {_FRAMES, _DEPTH} <= set(each.attributes):
            raise UserError(
                f"{path}: question {each.id} does not say how deep its needle is in how many frames; give a "
                "list that `ivjax data demo --needles` wrote, or name a haystack to hide needles in"
            )
    return list(found)


class _Watch:
    """Watches each haystack once, hides needles in it, and takes the time."""

    def __init__(self, haystack: Haystack | None):
        self._haystack = haystack
        self._seen: dict[int, dict[str, float]] = {}  # frames -> tokens and seconds

    def see(
        self, model: AnswerModel, waiting: Sequence[Worded]
    ) -> Iterator[tuple[Worded, Watched | ClipError]]:
        """Yields questions by length, and in each the deepest needles first.

        A prompt goes on behind what it has in common with the one before: all that comes before the needle.
        """
        haystack = self._haystack
        assert haystack is not None
        places = {needle.id: number for number, needle in enumerate(haystack.needles)}
        length, whole = 0, None
        for worded in sorted(waiting, key=lambda each: (_frames(each.question), -_depth(each), each.place)):
            try:
                if _frames(worded.question) != length or whole is None:
                    length, whole = _frames(worded.question), None
                    began = time.perf_counter()
                    whole = haystack.whole(model, length)
                    self._note(length, whole, time.perf_counter() - began)
                number = places[worded.question.id]
                hidden = haystack.hidden(model, whole, number, length, _depth(worded))
            except ClipError as error:
                yield worded, error
                continue
            began = time.perf_counter()
            yield worded, hidden
            self._seen[length]["answering"] += time.perf_counter() - began

    def _note(self, length: int, whole: Watched, seconds: float) -> None:
        counts = {"tokens": float(len(whole.visual)), "unmerged": float(whole.unmerged)}
        self._seen[length] = {**counts, "watching": seconds, "answering": 0.0}

    def lengths(self, model: AnswerModel) -> list[Mapping[str, Any]]:
        """Returns tokens, FLOPs and seconds of each length that was watched in this process."""
        return [
            {
                "by": "length",
                "name": f"{length:,} frames",
                "visual_tokens": int(seen["tokens"]),
                "unmerged_tokens": int(seen["unmerged"]),
                "prefill_gflop": round(_prefill(model, int(seen["tokens"])) / 1e9, 3),
                "watching_s": round(seen["watching"], 2),
                "answering_s": round(seen["answering"], 2),
            }
            for length, seen in sorted(self._seen.items())
        ]


def _prefill(model: AnswerModel, tokens: int) -> float:
    return float(sum(model.answerer.model.size.language.flops(tokens).values()))


def _frames(question: EvalQuestion) -> int:
    return int(question.attributes[_FRAMES])


def _depth(worded: Worded) -> float:
    return float(worded.question.attributes[_DEPTH])


def _is_found(
    question: EvalQuestion, answer: KeptAnswer, protocol: ChoiceProtocol, lenient: bool
) -> bool | None:
    if question.options:
        rule = is_right_leniently if lenient else is_right_strictly
        return rule(question, answer, protocol)
    said, right = plain_words(answer["reply"]), plain_words(question.answer)
    # The original asks whether the likeliest token is right at each place of the answer, and no more.
    return said.startswith(right) if lenient else said == right


class _Scorer:
    """Counts which needles were found, as the options say."""

    def __init__(self, answered: Answered, suite: NeedleSearch, protocol: ChoiceProtocol):
        self.pairs = list(zip(answered.questions, answered.answers, strict=True))
        self._protocol, self._lenient = protocol, suite.extraction == "lenient"
        self._steps = max(suite.depths - 1, 1)

    def share(self, pairs: Sequence[tuple[EvalQuestion, KeptAnswer]], lenient: bool | None = None) -> float:
        """Returns the percentage of needles that are found."""
        lenient = self._lenient if lenient is None else lenient
        found = [_is_found(*pair, self._protocol, lenient) for pair in pairs]
        counted = [value for value in found if value is not None]
        return round(100 * float(np.mean(counted)), 2) if counted else 0.0

    def cells(self) -> list[Mapping[str, Any]]:
        """Returns the share of each length and depth."""
        members: dict[tuple[int, float], list[tuple[EvalQuestion, KeptAnswer]]] = {}
        for question, answer in self.pairs:
            # Videos of a list lie at any depths: each belongs to the nearest of the grid.
            depth = round(float(question.attributes[_DEPTH]) * self._steps) / self._steps
            cell = int(float(question.attributes[_FRAMES])), round(depth, 4)
            members.setdefault(cell, []).append((question, answer))
        return [
            {
                "by": "cell",
                "name": f"{frames:,} frames, depth {depth:g}",
                "frames": frames,
                "depth": depth,
                "questions": len(pairs),
                "accuracy": self.share(pairs),
            }
            for (frames, depth), pairs in sorted(members.items())
        ]

    def kinds(self) -> list[Mapping[str, Any]]:
        """Returns the share of each kind of question, where there are several."""
        members: dict[str, list[tuple[EvalQuestion, KeptAnswer]]] = {}
        for pair in self.pairs:
            members.setdefault(pair[0].attributes.get(KIND, ""), []).append(pair)
        if len(members) < 2:
            return []
        return [
            {"by": KIND, "name": kind, "questions": len(pairs), "accuracy": self.share(pairs)}
            for kind, pairs in sorted(members.items())
        ]

    def metrics(self, cells: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Returns the share of all, beside chance, and that of the worst cell."""
        metrics = {
            "accuracy": self.share(self.pairs),
            "lenient": self.share(self.pairs, lenient=True),
            "lowest_cell": min(cell["accuracy"] for cell in cells),
        }
        if all(question.options for question, _ in self.pairs):
            chance = 100 * float(np.mean([1 / len(question.options) for question, _ in self.pairs]))
            metrics |= {"chance": round(chance, 2), "times_chance": round(metrics["accuracy"] / chance, 3)}
        return metrics


def _draw(png: str, cells: Sequence[Mapping[str, Any]], accuracy: float, setting: Setting[Any]) -> None:
    if setting.encoder.is_first:
        from ivjax.figures.heat_map import draw_heat_map  # here: matplotlib takes a second

        values = {(cell["frames"], cell["depth"]): cell["accuracy"] for cell in cells}
        draw_heat_map(f"needle found: {accuracy:.1f} %", values, Path(png).expanduser())


def _haystack_words(suite: NeedleSearch, path: str) -> str:
    if (seed := drawn_seed(path)) is not None:
        return f"the demo's long video number 0 of seed {seed}"
    if suite.haystack is not None:
        return f"{suite.haystack}, at one frame a second, or spread evenly where it is shorter"
    return "those of the list"
