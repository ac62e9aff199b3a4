"""Questions with the right answers, and what models said."""

from ivjax.report.facts.answered_questions import AnsweredQuestion, AnsweredSample, Said
from ivjax.report.film import Film, Strip, film_html
from ivjax.report.markup import escaped, paragraph


def dialogue_cards(data: str, sample: AnsweredSample) -> tuple[str, list[Film]]:
    """Returns questions of a test set as HTML, and the films that it has."""
    films = [_film(one, number) for number, one in enumerate(sample.questions, 1)]
    cards = "".join(_card(one, film) for one, film in zip(sample.questions, films, strict=True))
    told = paragraph(f"{len(films)} of {sample.answered:,} questions of {data}, evenly spread.")
    return f'{told}<div class="films">{cards}</div>', [film for film in films if film]


def _film(one: AnsweredQuestion, number: int) -> Film | None:
    if one.frames is None:
        return None
    strip = Strip(one.frames, f"the video of question {number}, {len(one.frames)} frames")
    return Film(one.question, (strip,), f"question_{number}")


def _card(one: AnsweredQuestion, film: Film | None) -> str:
    shown = film_html(film) if film else paragraph(one.question)
    options = f"options: {escaped('; '.join(one.options))}" if one.options else "no options"
    kind = f" ({escaped(one.kind)})" if one.kind else ""
    lines = f"<li>{options}{kind}</li><li>right answer: <strong>{escaped(one.answer)}</strong></li>"
    return f'<article>{shown}<ul class="answer">{lines}{"".join(map(_line, one.said))}</ul></article>'


def _line(said: Said) -> str:
    verdict, sign = ("said-right", "right") if said.right else ("said-wrong", "wrong")
    return f'<li>{escaped(said.label)}: <span class="{verdict}">{escaped(said.words)} ({sign})</span></li>'
