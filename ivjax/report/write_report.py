"""Writes the report: facts are read, sections drawn, and one page stored with its pictures beside it."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.figures.curves import draw_curves
from ivjax.progress import Say
from ivjax.report.facts.run_facts import GivenFolders, read_folders
from ivjax.report.markup import Absent, Found, Section
from ivjax.report.page import page_html
from ivjax.report.sections.configs import configs
from ivjax.report.sections.losses import losses
from ivjax.report.sections.needles import needles
from ivjax.report.sections.overview import overview
from ivjax.report.sections.scores import scores
from ivjax.report.sections.times import ledger, speed
from ivjax.sweep.results import Ranking

PAGE, PICTURES = "index.html", "pictures"
_PICTURED = 4  # runs of which pictures are made: each adds up to some megabytes
_PANELS = 6  # runs of losses.png
_CURVES = 16  # runs of a chart: more cannot be told apart
_NAMED = 4  # runs in the title


@dataclass(frozen=True)
class ReportOptions:
    """Options of a report.

    Attributes:
        evals: files of `ivjax eval --out`, beside those in the run folders.
        model: whether pictures are made that need checkpoints and corpora.
        clips: how many clips of each run are shown.
        ranking: what runs of sweeps are sorted by.
    """

    evals: tuple[Path, ...] = ()
    model: bool = True
    clips: int = 3
    ranking: Ranking = Ranking()

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise UserError(f"clips must be 1 or more, got {self.clips}; to leave them out, add --no-model")


def write_report(
    folders: Sequence[Path], out: Path, options: ReportOptions = ReportOptions(), say: Say = print
) -> Path:
    """Writes a page about runs, runs in phases and sweeps, and PNG files beside it; returns the page.

    `say` takes lines for the person who waits.
    """
    given = read_folders(folders, options.evals)
    # First, because pictures take a while.
    try:
        (out / PICTURES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be made: {error.strerror}; choose another folder") from None
    found = list(_found(given, out / PICTURES, options, say))
    logged = {run.label: run.folder for run in given.runs if run.points("loss")}
    if logged:
        draw_curves(dict(list(logged.items())[:_PANELS]), out / PICTURES / "losses.png")
    names = [folder.resolve().name for folder in folders]
    title = f"Report on {', '.join(names) if len(names) <= _NAMED else f'{len(names)} runs'}"
    sections = [part for part in found if isinstance(part, Section)]
    absent = [part for part in found if isinstance(part, Absent)]
    page = out / PAGE
    store(page, page_html(title, sections, absent))
    return page


def _found(given: GivenFolders, pictures: Path, options: ReportOptions, say: Say) -> Iterator[Found]:
    runs, charted = given.runs, given.runs[:_CURVES]
    yield from overview(runs)
    if given.sweeps:
        from ivjax.report.sections.sweep_tables import sweep_tables

        yield from sweep_tables(given.sweeps, options.ranking)
    pictured = _pictures(given, pictures, options, say)
    parts = (losses(charted), scores(runs), pictured, needles(runs, pictures), ledger(runs), speed(charted))
    for part in itertools.chain(*parts, configs(runs)):
        # A line for each of the many runs of a sweep would tell nobody anything.
        if given.named or isinstance(part, Section):
            yield part
    if len(runs) > _CURVES:
        yield Absent(f"curves of {len(runs) - _CURVES} further runs: a chart has {_CURVES} at most")


def _pictures(given: GivenFolders, folder: Path, options: ReportOptions, say: Say) -> Iterator[Found]:
    # Runs of a sweep are compared by their numbers; name one of them by itself for its pictures.
    named = given.runs[: given.named]
    if not named:
        return
    if not options.model:
        yield Absent("pictures of clips, masks, merging, retrieval and dialogues", "leave out --no-model")
        return
    # Here, because models take seconds to import.
    from ivjax.report.sections.pictures import PictureRequest, picture_sections

    yield from picture_sections(PictureRequest(named[:_PICTURED], options.clips, folder, say))
    for run in named[_PICTURED:]:
        yield Absent(
            f"pictures of {run.label}: only the first {_PICTURED} runs have them",
            f"ivjax report {run.folder}",
        )
