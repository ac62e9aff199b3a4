"""docs/extending.md holds: each addition, applied to a copy of the tree, works and stays within its price."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.train.processes import ROOT

PAGE = ROOT / "docs" / "extending.md"
PRICES = {"A video encoder": 2, "A stage": 0, "A field of a batch": 1, "A data source": 1, "An eval suite": 1}
_BLOCK = re.compile(r'^```(python|diff) title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Addition:
    """A section of the page: the files that it adds, and the changes in files that exist."""

    name: str
    added: dict[str, str]
    edited: dict[str, str]

    @property
    def tests(self):
        return [path for path in self.added if path.startswith("tests/")]


def additions():
    heading, *sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    assert heading.startswith("# Extending")
    found = []
    for section in sections:
        blocks = _BLOCK.findall(section)
        added = {path: text for kind, path, text in blocks if kind == "python"}
        edited = {path: text for kind, path, text in blocks if kind == "diff"}
        found.append(Addition(section.splitlines()[0], added, edited))
    return found


def apply(addition, tree):
    """Writes an addition into a copy of the tree."""
    for path, text in addition.added.items():
        assert not (tree / path).exists(), f"{path} exists already"
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    for path, diff in addition.edited.items():
        (tree / path).write_text(patched((tree / path).read_text(), diff, path))


def patched(text, diff, path):
    """The text with each hunk applied; a hunk's unchanged and removed lines must stand in it exactly once."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines()
        before = "\n".join(line[1:] for line in lines if line[0] in " -")
        after = "\n".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1, f"{path} has these lines {text.count(before)} times:\n{before}"
        text = text.replace(before, after)
    return text


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    tree = tmp_path_factory.mktemp("copy")
    left_out = shutil.ignore_patterns("__pycache__", "golden")
    for name in ("ivjax", "configs", "data_pipelines", "launch", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=left_out)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tree / name)
    return tree


@pytest.mark.parametrize("addition", additions(), ids=lambda addition: addition.name)
def test_an_addition_edits_no_more_files_than_the_price_list_allows(addition):
    print(f"{addition.name}: {len(addition.added)} new files, {len(addition.edited)} edited")
    assert len(addition.edited) <= PRICES[addition.name]
    assert all((ROOT / path).is_file() for path in addition.edited)
    assert addition.tests


@pytest.mark.multiprocess
def test_all_additions_of_the_page_work_in_a_copy_of_the_tree(copy):
    page = additions()
    assert [addition.name for addition in page] == list(PRICES)
    for addition in page:
        apply(addition, copy)
    tests = [path for addition in page for path in addition.tests]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert f"{len(tests)} passed" in done.stdout


def test_a_hunk_that_does_not_fit_is_an_error():
    assert patched("a\nb\n", " a\n+x\n", "file") == "a\nx\nb\n"
    with pytest.raises(AssertionError, match="file has these lines 0 times"):
        patched("a\nb\n", " c\n+x\n", "file")
