"""The commands of README and docs run, in one folder, page after page.

They run as they stand, with words appended that make them small: fewer clips, fewer steps. A line that
stands on several pages is run once. What a page takes from elsewhere, such as the run of a long training, is
made small before.
"""

import os
import subprocess
import sys

import pytest

from ivjax.data_pipelines.demo.needle_video import NeedleVideo
from tests.docs.pages import PAGES, Line, blocks, lines
from tests.generate.small_dialogue import save_dialogue_run
from tests.train.processes import ROOT
from tests.xla import quick_flags

# Pages that others build on go first.
FIRST = ("README.md", "docs/data.md", "docs/viclip.md", "docs/stage1.md", "docs/stage2.md", "docs/stage3.md")
# Lines that other tests run: by their page and the first words that they have.
ELSEWHERE = {
    ("README.md", "python3 -m venv"): ".ci/run",
    ("docs/quickstart.md", "ivjax "): "tests/test_quickstart.py",
    ("docs/getting_started.md", "ivjax "): "tests/test_getting_started.py",
    ("docs/extending.md", "python -m tests.records"): "tests/test_extending.py",
}
# What is appended to a line that begins so; the first that fits counts.
APPENDED = {
    "ivjax data demo demo --needles 10": "--needles 1 --frames 64",
    "ivjax data demo demo --needles": "--needles 1",
    "ivjax data demo": "--clips 72 --held-out 72",
    "ivjax bench step": "--runs 1",
    "ivjax bench data": "--clips 8",
    "ivjax eval runs/dialogue_tiny --suite needle": "--depths 2 --needles 1",
    "ivjax eval runs/dialogue_tiny --suite mcqa": "--limit 60",
    "ivjax eval runs/stage2_tiny --suite vqa": "--limit 60",
    "ivjax train": "steps=3 log.every=1 eval_loss.every=0",
    "ivjax launch local": "steps=3 log.every=1 eval_loss.every=0",
    "ivjax sweep": "steps=3 log.every=1 eval_loss.every=0",
}
# Short trainings whose results pages take for granted.
BEFORE = {
    "docs/report.md": (
        "ivjax eval runs/tiny --suite probe --train shards/demo --data shards/demo_held_out"
        " --attribute colour --out probe.json",
    ),
}


def runnable(page: str) -> list[Line]:
    """The command lines of a page that need nothing and that no other test runs."""
    found = [line for block in blocks(page) if block.language == "sh" for line in lines(block)]
    return [line for line in found if line.needs is None and elsewhere(line) is None]


def elsewhere(line: Line) -> str | None:
    """The test that runs a line, if this one does not."""
    for (page, begins), test in ELSEWHERE.items():
        if line.block.page == page and line.text.startswith(begins):
            return test
    return None


ORDERED = [*FIRST, *(page for page in PAGES if page not in FIRST and runnable(page))]


class Home:
    """The folder in which all lines run, and the lines that have run there."""

    def __init__(self, folder):
        self.folder, self.done = folder / "home", set()
        programs = folder / "programs"
        for made in (self.folder, programs):
            made.mkdir()
        program = programs / "ivjax"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ivjax "$@"\n')
        program.chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": quick_flags(1),
        }
        save_dialogue_run(self.folder / "runs" / "dialogue_tiny")
        (self.folder / "clip.mp4").write_bytes(NeedleVideo(1, 0, 40).encode())

    def run(self, text: str) -> None:
        """Runs a line by the shell, with what makes it small; fails with what it printed."""
        if text in self.done:
            return
        small = next((words for begins, words in APPENDED.items() if text.startswith(begins)), "")
        done = subprocess.run(
            ["bash", "-c", f"{text} {small}"],
            cwd=self.folder,
            env=self.environment,
            input="What happens?\n",  # what a chat without a question asks for
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{text} {small}\n{done.stdout[-3000:]}"
        self.done.add(text)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("docs"))


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("page", ORDERED)
def test_the_commands_of_a_page_run_as_they_stand(page, home):
    for text in BEFORE.get(page, ()):
        home.run(text)
    for line in runnable(page):
        home.run(line.text)


def test_lines_that_other_tests_run_are_still_there_and_so_are_those_tests():
    for (page, begins), test in ELSEWHERE.items():
        found = [line for block in blocks(page) if block.language == "sh" for line in lines(block)]
        assert any(line.text.startswith(begins) for line in found), f"{page} has no line {begins}"
        assert (ROOT / test).is_file()
