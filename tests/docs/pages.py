"""README.md and the pages in docs/: their fenced blocks, commands, headings and links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.train.processes import ROOT

PAGES = ("README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md")))
LANGUAGES = {"sh", "python", "text", "diff"}
_FENCE = re.compile(r'^```(\w*)(?: title="([^"]*)")?\n(.*?)^```$', re.M | re.S)
_NEEDS = re.compile(r"# needs (\S.*)")
_CODE = re.compile(r"`[^`]*`")
_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the file, from the root of the repository.
        line: where its first line stands.
        language: the word after the fence.
        title: its title, or an empty text.
        text: what is in it.
    """

    page: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def needs(self) -> str | None:
        """What a block of Python says in its first line that it needs."""
        found = _NEEDS.match(self.text)
        return found and found[1]


@dataclass(frozen=True)
class Line:
    """A command line of a block.

    Attributes:
        block: where it stands.
        text: the line, continued lines joined, without what stands behind `#`.
        needs: what the line or one before it in the block says that it needs, or None.
    """

    block: Block
    text: str
    needs: str | None

    def __str__(self) -> str:
        return f"{self.block}: {self.text}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a line, with what is redirected left out."""
        lexer = shlex.shlex(self.text, posix=True, punctuation_chars="|&;>")
        lexer.whitespace_split = True
        found: list[list[str]] = [[]]
        skipping = False
        for word in lexer:
            if set(word) <= set("|&;"):
                found.append([])
            elif word == ">":
                skipping = True
            elif skipping:
                skipping = False
            else:
                found[-1].append(word)
        return found


def text_of(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text()


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = text_of(page)
    return [
        Block(page, text.count("\n", 0, found.start()) + 2, *found.groups())
        for found in _FENCE.finditer(text)
    ]


def lines(block: Block) -> Iterator[Line]:
    """The command lines of a block of shell."""
    needs = None
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        if found := _NEEDS.fullmatch(line):
            needs = found[1]
        elif text := _without_remark(line):
            yield Line(block, text, needs)


def _without_remark(line: str) -> str:
    # Blanks go before a remark, and `RUN#BRANCH` is none.
    return re.sub(r"(^|\s+)# .*", "", line).strip()


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def headings(page: str) -> list[str]:
    """The anchors of a page's headings, as code hosts and the site make them."""
    found = re.findall(r"^#{1,6} (.+)$", prose(page), re.M)
    return [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in found]


def links(page: str) -> Iterator[tuple[str, str]]:
    """Words and target of each link and picture of a page."""
    yield from _LINK.findall(_CODE.sub("code", prose(page)))


def path_of(page: str, target: str) -> Path:
    """The file that a link of a page leads to."""
    file = target.partition("#")[0]
    return ((ROOT / page).parent / file).resolve() if file else ROOT / page
