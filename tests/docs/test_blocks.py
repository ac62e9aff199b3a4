"""Fenced blocks of README and docs: each has a language, and each command is one that the program takes."""

import argparse
import re

import pytest

from ivjax.cli import _parser
from tests.commands import check_command
from tests.docs.pages import LANGUAGES, PAGES, blocks, lines, prose, text_of

BLOCKS = [block for page in PAGES for block in blocks(page)]
LINES = [line for block in BLOCKS if block.language == "sh" for line in lines(block)]


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_is_read_and_says_its_language(page):
    found = [block for block in BLOCKS if block.page == page]
    assert text_of(page).count("\n```") == 2 * len(found)
    assert {block.language for block in found} <= LANGUAGES


@pytest.mark.parametrize("page", sorted({line.block.page for line in LINES}))
def test_the_program_takes_every_command_of_a_page(page):
    checked = 0
    for line in LINES:
        for words in line.commands:
            if line.block.page == page and words[0] == "ivjax":
                check_command(words[1:])
                checked += 1
    assert checked or page in ("CONTRIBUTING.md", "docs/extending.md")


def test_commands_do_not_hide_in_blocks_of_text():
    hidden = [
        str(block) for block in BLOCKS if block.language == "text" and re.search("^ivjax ", block.text, re.M)
    ]
    assert hidden == []


def test_what_a_laptop_lacks_is_said_before_commands_of_other_programs():
    others = {line.commands[0][0] for line in LINES if line.needs is None and line.commands[0][0] != "ivjax"}
    assert others == {"python", "python3", "printf"}


@pytest.mark.parametrize("page", PAGES)
def test_flags_of_commands_in_running_text_exist(page):
    for code in re.findall(r"`ivjax ([^`]+)`", prose(page).replace("\n", " ")):
        parser = _parser()
        for word in code.split():
            choices = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
            if choices and word in choices[0]:
                parser = choices[0][word]
        flags = re.findall(r"(?<!\S)(--[a-z-]+)", code.partition(" train ")[0])
        known = {flag for action in parser._actions for flag in action.option_strings}
        assert set(flags) <= known, f"ivjax {code} of {page}"
