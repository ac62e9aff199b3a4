"""Child processes that end before they have answered."""

import pytest

from ivjax.data_pipelines.child import Child, LostError
from ivjax.errors import UserError


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a child that runs some code."""
    monkeypatch.syspath_prepend(tmp_path)

    def start(code):
        (tmp_path / "doomed.py").write_text(code)
        return Child("doomed", None)

    return start


def test_a_child_that_is_killed_while_it_starts_is_lost(start):
    for _ in range(5):
        with pytest.raises(LostError, match="ended with status -9"):
            start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").ask("question", 5.0)


def test_a_child_that_cannot_start_is_an_error(start):
    with pytest.raises(UserError, match="a decode process did not start"):
        start("raise SystemExit(1)").ask("question", 5.0)
