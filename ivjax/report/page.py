"""The page: sections one below the other, with a navigation, a style sheet and a script inside the file."""

from collections.abc import Sequence
from pathlib import Path

from ivjax.report.markup import Absent, Section, escaped
from ivjax.version import __version__

_HERE = Path(__file__).parent
# Nothing on the page may ask a network for anything, whatever a run has written into it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page_html(title: str, sections: Sequence[Section], absent: Sequence[Absent]) -> str:
    """Returns the page as one HTML document."""
    shown = [*sections, *([_absent_section(absent)] if absent else [])]
    links = "".join(f'<li><a href="#{part.anchor}">{escaped(part.title)}</a></li>' for part in shown)
    style, script = ((_HERE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            # Without it browsers ask the server of the page for an icon.
            f'<link rel="icon" href="data:,"><title>{escaped(title)}</title><style>{style}</style></head>',
            '<body><a class="skip" href="#main">to the report</a>',
            f'<header><h1>{escaped(title)}</h1></header><nav aria-label="sections"><ul>{links}</ul></nav>',
            '<main id="main" tabindex="-1">',
            *(_section_html(part) for part in shown),
            f"</main><footer><p>Written by ivjax {escaped(__version__)}.</p></footer>",
            f"<script>{script}</script></body></html>\n",
        ]
    )


def _section_html(part: Section) -> str:
    heading = f"{part.anchor}-heading"
    return (
        f'<section id="{part.anchor}" aria-labelledby="{heading}">'
        f'<h2 id="{heading}">{escaped(part.title)}</h2>{part.body}</section>'
    )


def _absent_section(absent: Sequence[Absent]) -> Section:
    lines = []
    for one in absent:
        how = f": <code>{escaped(one.how)}</code>" if one.how else ""
        lines.append(f"<li>{escaped(one.what)}{how}</li>")
    return Section("absent", "Not on this page", f"<ul>{''.join(lines)}</ul>")
