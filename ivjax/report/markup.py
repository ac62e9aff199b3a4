"""Pieces of HTML. Every text that comes from a run is escaped here, and nowhere else."""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A part of the page that its navigation links to.

    Attributes:
        anchor: the id that links name.
        title: its heading.
        body: HTML below the heading.
    """

    anchor: str
    title: str
    body: str


@dataclass(frozen=True)
class Absent:
    """Something that a page could show and does not.

    Attributes:
        what: what is not there, and of which run.
        how: the command or the option that would make it, or "".
    """

    what: str
    how: str = ""


_COLOURS = 8  # that page.css has for runs
Found = Section | Absent  # what a function of a section yields
Cell = str | int | float | None  # of a table; None is empty


def escaped(text: object) -> str:
    """Returns a text for the inside of an element or of a quoted attribute."""
    # Bytes that were no UTF-8 come as lone surrogates, which no file can hold.
    return html.escape(str(text).encode("utf-8", "replace").decode(), quote=True)


def number(value: float) -> str:
    """Returns a number with four significant digits, whole numbers with their thousands apart."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 1000):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def paragraph(text: object, kind: str = "") -> str:
    """Returns a paragraph of plain text, with a CSS class if `kind` is given."""
    return f"<p{_classed(kind)}>{escaped(text)}</p>"


def table(name: str, headings: Sequence[str], rows: Iterable[Sequence[Cell]], kind: str = "") -> str:
    """Returns a table below its name; the first cell of a row is its heading."""
    return framed_table(name, headings, "".join(_row(row) for row in rows), kind)


def framed_table(name: str, headings: Sequence[str], rows: str, kind: str = "") -> str:
    """Returns a table of rows that are HTML already. It scrolls sideways where it is too wide."""
    head = "".join(f'<th scope="col">{escaped(heading)}</th>' for heading in headings)
    return (
        # Not a caption, which would be as narrow as the table.
        f'<p class="table-name" aria-hidden="true">{escaped(name)}</p>'
        # Focusable, so that the arrow keys can scroll it.
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(name)}">'
        f'<table{_classed(kind)} aria-label="{escaped(name)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def file_name(label: str) -> str:
    """Returns a label as the middle of a file's name."""
    return re.sub(r"[^\w.-]+", "_", label).strip("_")


def duration(seconds: float) -> str:
    """Returns seconds as people say them."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{seconds:.3g} s"


def details(summary: str, body: str) -> str:
    """Returns HTML that is folded away below a line."""
    return f"<details><summary>{escaped(summary)}</summary>{body}</details>"


def colour_class(place: int) -> str:
    """Returns the CSS classes of the colour of a run; further runs have the same ones, marked as `again`."""
    return f"run{place % _COLOURS}{' again' if place >= _COLOURS else ''}"


def legend(labels: Sequence[str]) -> str:
    """Returns the colours of runs in charts, in the order of the runs."""
    keys = "".join(
        f'<li><span class="key {colour_class(place)}" aria-hidden="true"></span>{escaped(label)}</li>'
        for place, label in enumerate(labels)
    )
    return f'<ul class="legend">{keys}</ul>'


def _row(cells: Sequence[Cell]) -> str:
    first, *others = cells
    shown = "".join(_cell(cell) for cell in others)
    return f'<tr><th scope="row">{escaped("" if first is None else first)}</th>{shown}</tr>'


def _cell(cell: Cell) -> str:
    if cell is None:
        return "<td></td>"
    # Files of results may hold anything.
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return f"<td>{escaped(cell)}</td>"
    return f'<td class="number">{number(cell)}</td>'


def _classed(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
