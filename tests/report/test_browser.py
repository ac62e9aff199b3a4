"""The page in a real browser: no error, every picture, every section, keys, and no width too narrow."""

import pytest

from ivjax.report.write_report import ReportOptions, write_report
from tests.report.browser import browser_file, started
from tests.report.runs import dialogue_run, masked_run, pair_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_file() is None, reason="no chromium is installed"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with every section that a model draws."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [masked_run(folder / "m" / "stage1"), pair_run(folder / "p" / "pairs")]
    runs.append(dialogue_run(folder / "d" / "dialogue"))
    return write_report(runs, folder / "report", ReportOptions(clips=2), lambda line: None)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_is_whole_and_as_wide_as_the_window(browser, page, width, dark, tmp_path):
    browser.open(page, width, dark=dark)
    assert browser.problems == []
    assert browser.run("document.images.length") > 20
    assert browser.run("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
    assert browser.run("document.documentElement.scrollWidth") == width
    # Text can be told from what lies behind it, in the light and in the dark.
    ink, paper = (brightness(browser, what) for what in ("color", "backgroundColor"))
    assert (paper < 128) == dark and abs(ink - paper) > 500
    assert browser.picture(tmp_path / "page.png").stat().st_size > 50_000


def brightness(browser, what):
    """The sum of red, green and blue of a colour of the page, 0 to 765."""
    colour = browser.run(f"getComputedStyle(document.body).{what}")
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_every_link_leads_to_its_section(browser, page):
    browser.open(page, 1440)
    links = browser.run("[...document.querySelectorAll('nav a')].map(a => a.hash)")
    assert {"#runs", "#clips", "#merging", "#retrieval", "#dialogues", "#config"} <= set(links)
    for link in links:
        browser.run(f"document.querySelector('nav a[href=\"{link}\"]').click()")
        top = browser.run(f"document.querySelector('{link} h2').getBoundingClientRect().top")
        # Below the navigation, which stays in view, and above the lower edge.
        lower = browser.run("document.querySelector('nav').getBoundingClientRect().bottom")
        assert lower <= top + 20 < 900, link
    assert browser.problems == []


def test_keys_reach_and_move_films_and_charts(browser, page):
    browser.open(page, 390)
    reached = set()
    for _ in range(200):
        browser.press("Tab", 9)
        reached.add(browser.run(FOCUSED))
    assert {"A ", "A skip", "svg ", "BUTTON ", "INPUT ", "SUMMARY ", "DIV scroll"} <= reached
    browser.run("document.querySelector('.film input').focus()")
    before = browser.run(FRAME)
    browser.press("ArrowRight", 39)
    after = browser.run(FRAME)
    assert after["value"] == before["value"] + 1 and after["left"] < before["left"]
    browser.run("document.querySelector('svg[data-chart]').focus()")
    browser.press("End", 35)
    last = browser.run("document.querySelector('.chart .reading').textContent")
    browser.press("ArrowLeft", 37)
    assert last.startswith("step 40: ") and "stage1 0.1" in last
    assert browser.run("document.querySelector('.chart .reading').textContent").startswith("step 30: ")
    assert browser.problems == []


def test_a_film_plays_when_it_is_asked_to(browser, page):
    browser.open(page, 1440)
    browser.run("document.querySelector('.film button').click()")
    assert browser.run("document.querySelector('.film button').textContent") == "Pause"
    before = browser.run(FRAME)["value"]
    changed = f"new Promise(done => {{ const t = setInterval(() => {{ if ({FRAME}.value != {before}) {{"
    assert browser.run(changed + " clearInterval(t); done(true); } }, 50); })")
    browser.run("document.querySelector('.film button').click()")
    assert browser.run("document.querySelector('.film button').textContent") == "Play"


# The element that has the focus, and its class.
FOCUSED = "document.activeElement.tagName + ' ' + (document.activeElement.getAttribute('class') || '')"
# The frame that the first film shows, and where its picture begins.
FRAME = (
    "({value: Number(document.querySelector('.film input').value), "
    "left: document.querySelector('.film img').getBoundingClientRect().left})"
)
