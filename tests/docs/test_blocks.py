"""Fenced blocks of README and docs: marked by their language, and every command is one that the program takes."""

import pytest

from tests.docs.pages import LANGUAGES, PAGES, blocks, lines

BLOCKS = [block for page in PAGES for block in blocks(page)]
LINES = [line for block in BLOCKS if block.language == "sh" for line in lines(block)]


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_is_read_and_says_its_language(page):
    found = [block for block in BLOCKS if block.page == page]
    text = (found[0].page if found else page) and __import__("tests.docs.pages", fromlist=["x"]).text_of(page)
    assert text.count("\n```") == 2 * len(found)
    assert {block.language for block in found} <= LANGUAGES
