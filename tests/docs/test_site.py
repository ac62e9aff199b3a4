"""The documentation site: its navigation, and that it is built without a warning."""

import os
import re
import subprocess
import sys

import pytest

from tests.docs.pages import PAGES
from tests.train.processes import ROOT

CONFIG = (ROOT / "mkdocs.yml").read_text()


def test_every_page_is_in_the_navigation_once():
    navigation = CONFIG.partition("\nnav:\n")[2].partition("\ntheme:\n")[0]
    listed = re.findall(r"^ +- [^:#\n]+: (\S+\.md)$", navigation, re.M)
    pages = [page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")]
    # The site makes a page of each notebook.
    pages += [f"notebooks/{file.stem}.md" for file in (ROOT / "docs" / "notebooks").glob("*.ipynb")]
    assert sorted(listed) == sorted(pages)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install 'ivjax[docs]'")
    pytest.importorskip("mkdocstrings_handlers.python", reason="mkdocstrings[python] is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    page = (tmp_path / "site" / "reference" / "python.html").read_text()
    assert "the run folder or the file; PATH#BRANCH is a video tower inside it" in page
    notebooks = tmp_path / "site" / "notebooks"
    assert (notebooks / "stage1_in_miniature.ipynb").is_file()
    page = (notebooks / "stage1_in_miniature.html").read_text()
    assert 'href="stage1_in_miniature.ipynb"' in page and 'href="../stage1.html"' in page
    home = (tmp_path / "site" / "index.html").read_text()
    assert 'href="notebooks/stage1_in_miniature.html"' in home and ".ipynb" not in home
