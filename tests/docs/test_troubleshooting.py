"""The page of error messages: each message that it quotes is still in the code."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import text_of
from tests.train.processes import ROOT

# Two marks go around a message that holds code itself.
_ROW = re.compile(r"^\| (`+) ?(.+?) ?\1 \| .+ \| .+ \|$", re.M)
_GAP = "\0"


def quoted() -> list[str]:
    """The messages of the page's tables."""
    return [message for _, message in _ROW.findall(text_of("docs/troubleshooting.md"))]


def texts() -> Iterator[str]:
    """Every text in the code, with a mark where a value is put in."""
    for folder in ("ivjax", "data_pipelines", "launch"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(
                        part.value if isinstance(part, ast.Constant) else _GAP for part in node.values
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


@pytest.fixture(scope="module")
def code():
    return "\n".join(texts())


def found(message: str, code: str) -> bool:
    """Whether a text of the code has the message's fixed words, with values alone between them."""
    # Three dots stand for a value, more for values that dots part or that follow each other.
    words = [re.escape(part) for part in re.split(r"\.{3,}", message.strip("."))]
    return re.search(f"[{_GAP}.]+".join(words), code) is not None


def test_every_row_of_the_page_quotes_a_message():
    rows = [line for line in text_of("docs/troubleshooting.md").splitlines() if line.startswith("| `")]
    assert len(rows) == len(quoted()) > 60


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_in_the_code(message, code):
    assert found(message, code), message


def test_a_message_that_is_in_no_code_is_noticed(code):
    assert found("a run needs a folder: add --workdir RUN", code)
    assert not found("a run needs a garden: add ... RUN", code)
