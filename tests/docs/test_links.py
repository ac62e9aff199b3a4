"""Links of README and docs lead somewhere; lists and tables read the same on the site and on code hosts."""

import re

import pytest

from tests.docs.pages import PAGES, headings, links, path_of, text_of
from tests.train.processes import ROOT

# What a page of the site may link to: it has no files beside docs/.
SITE = ROOT / "docs"
ALL = (*PAGES, "CHANGELOG.md")


@pytest.mark.parametrize("page", ALL)
def test_links_lead_to_files_and_headings_that_exist(page):
    for words, target in links(page):
        if target.startswith(("http://", "https://")):
            continue
        file = path_of(page, target)
        assert file.exists(), f"{page}: [{words}]({target}) leads nowhere"
        if page.startswith("docs/"):
            assert file.is_relative_to(SITE), f"{page}: {target} is no page of the site"
        if "#" in target:
            anchors = headings(str(file.relative_to(ROOT)))
            assert target.partition("#")[2] in anchors, f"{page}: {target} names no heading"


@pytest.mark.parametrize("page", ALL)
def test_headings_of_a_page_have_different_anchors_where_one_is_linked(page):
    # Code hosts and the site number equal headings differently.
    linked = {
        target.partition("#")[2]
        for other in ALL
        for _, target in links(other)
        if "#" in target and path_of(other, target) == ROOT / page
    }
    anchors = headings(page)
    assert [anchor for anchor in linked if anchors.count(anchor) > 1] == []


def test_every_page_is_linked_from_the_home_page_or_from_another_one():
    linked = {path_of(page, target) for page in PAGES for _, target in links(page)}
    lonely = [page for page in PAGES if page.startswith("docs/") and ROOT / page not in linked]
    # The API reference is in the navigation alone.
    assert [page for page in lonely if not page.startswith("docs/reference/")] == ["docs/index.md"]


def test_every_picture_is_shown_somewhere():
    shown = {path_of(page, target) for page in PAGES for _, target in links(page)}
    assert [str(file) for file in sorted(SITE.glob("images/*")) if file not in shown] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_lists_and_tables_stand_apart_from_the_words_before_them(page):
    # The site's Markdown needs an empty line there, and takes no list inside a list of two blanks.
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S).splitlines()
    for before, line in zip(text, text[1:], strict=False):
        if re.match(r"([-*]|\d+\.) ", line):
            assert not before.strip() or re.match(r"([-*]|\d+\.) |  ", before), f"{page}: {line}"
        if line.startswith("|"):
            assert not before.strip() or before.startswith("|"), f"{page}: {line}"
        assert not re.match(r" +([-*]|\d+\.) ", line), f"{page}: {line}"
