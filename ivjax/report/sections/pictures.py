"""Sections of pictures that need checkpoints and corpora: clips, merging, hits, dialogues."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.storing import stored_experiment
from ivjax.models.dual_tower import DualTower
from ivjax.progress import Say
from ivjax.report.facts.answered_questions import answered_questions, answers_file
from ivjax.report.facts.eval_results import EvalResult
from ivjax.report.facts.merged_videos import merged_videos, merges
from ivjax.report.facts.retrieval_hits import retrieval_hits
from ivjax.report.facts.run_facts import RunFacts
from ivjax.report.film import Film, film_html, write_sheet
from ivjax.report.markup import Absent, Found, Section, paragraph
from ivjax.report.sections.clips import clip_films
from ivjax.report.sections.dialogues import dialogue_cards
from ivjax.report.sections.hits import hit_films
from ivjax.report.sections.merging import ABOUT, merging_films, merging_table

_QUESTIONS = 6  # of a test set
_ASK = "ivjax eval {run} --suite mcqa --data DATA --out {run}/mcqa.json"

_Opened = Sequence[tuple[RunFacts, Experiment]]


class PictureRequest(NamedTuple):
    """What pictures are made of.

    Attributes:
        runs: the runs of which there are pictures.
        clips: how many clips of each.
        folder: where PNG files of all frames go.
        say: takes lines for the person who waits.
    """

    runs: Sequence[RunFacts]
    clips: int
    folder: Path
    say: Say


def picture_sections(request: PictureRequest) -> Iterator[Found]:
    """Yields the sections; what a run lacks, or cannot be read, is told."""
    opened = []
    for run in request.runs:
        try:
            opened.append((run, stored_experiment(run.folder)))
        except UserError as error:
            yield Absent(f"pictures of {run.label}: {error}")
    yield from _section(request, opened, "clips", "Clips", _clips)
    yield from _section(request, opened, "merging", "What HiCo merged", _merging, ABOUT)
    yield from _section(request, opened, "retrieval", "What captions find", _hits)
    yield from _dialogues(request, opened)


# Returns HTML above the films of a run, and the films; no film if the section is not about such runs.
_Draw = Callable[[RunFacts, Experiment, PictureRequest], tuple[str, list[Film]]]


def _section(
    request: PictureRequest, opened: _Opened, anchor: str, title: str, draw: _Draw, about: str = ""
) -> Iterator[Found]:
    body, seen = "", set[bytes]()
    for run, experiment in opened:
        try:
            above, films = draw(run, experiment, request)
        # A corpus or a teacher that is out of reach takes nothing else of the page with it.
        except (UserError, ClipError) as error:
            yield Absent(f"{title.lower()}, {run.label}: {error}")
            continue
        shown = {b"".join(strip.frames.tobytes() for strip in film.strips) for film in films}
        if films and shown <= seen:
            body += paragraph(f"{run.label}: the same as above.")
            continue
        seen |= shown
        if films:
            body += f'{above}<div class="films">{"".join(map(film_html, films))}</div>'
        for film in films:
            write_sheet(film, request.folder)
    if body:
        yield Section(anchor, title, (paragraph(about, "note") if about else "") + body)


def _clips(run: RunFacts, experiment: Experiment, request: PictureRequest) -> tuple[str, list[Film]]:
    return "", list(clip_films(run, experiment, request.clips))


def _merging(run: RunFacts, experiment: Experiment, request: PictureRequest) -> tuple[str, list[Film]]:
    if run.checkpoint is None or not merges(experiment):
        return "", []
    request.say(f"merging the tokens of {run.label}")
    found = merged_videos(run.folder, experiment, request.clips)
    return merging_table(run, found), merging_films(run, found)


def _hits(run: RunFacts, experiment: Experiment, request: PictureRequest) -> tuple[str, list[Film]]:
    if run.checkpoint is None or not isinstance(experiment.stage.model(experiment.compute), DualTower):
        return "", []
    request.say(f"searching clips by captions with {run.label}")
    found = retrieval_hits(run.folder, experiment, request.say)
    about = (
        f"{run.label}: the best of the first {found[0].clips} clips of its eval corpus for some of their "
        "captions, with cosines. Clips in a green frame are right."
    )
    return paragraph(about, "note"), hit_films(run, found)


def _dialogues(request: PictureRequest, opened: _Opened) -> Iterator[Found]:
    """Yields the section of questions; runs that were asked the same ones answer them side by side."""
    asked: dict[str, list[tuple[RunFacts, Experiment, EvalResult]]] = {}
    for run, experiment in opened:
        if not hasattr(experiment.stage, "dialogue_field"):
            continue
        answered = [r for r in run.results if r.suite == "mcqa" and answers_file(r).is_file()]
        for result in answered:
            asked.setdefault(result.data, []).append((run, experiment, result))
        if not answered:
            yield Absent(f"questions and answers, {run.label}", _ASK.format(run=run.folder))
    body = ""
    for number, (data, told) in enumerate(asked.items(), 1):
        labels = [run.label for run, _, _ in told]
        several = len(set(labels)) < len(labels)  # results of one run are told apart by their files
        results = {f"{run.label} {r.file.stem}" if several else run.label: r for run, _, r in told}
        try:
            cards, films = dialogue_cards(data, answered_questions(results, told[0][1], _QUESTIONS))
        except (UserError, ClipError) as error:
            yield Absent(f"questions and answers, {', '.join(results)}: {error}")
            continue
        body += cards
        for film in films:
            write_sheet(film._replace(name=f"{film.name}_of_set_{number}"), request.folder)
    if body:
        yield Section("dialogues", "Questions and answers", body)
