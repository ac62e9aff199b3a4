"""The quickstart: its commands exist, and it goes on where it was stopped."""

import pytest

from ivjax.cli import _parser, main
from ivjax.quickstart import walkthrough
from ivjax.quickstart.commands import FAST, STUDENT, WHOLE, steps_of


@pytest.fixture
def started(monkeypatch):
    """Commands that were started, in place of starting them; those in `broken` fail."""
    commands, broken = [], set()

    def start(step, folder, xla_flags):
        folder.mkdir(exist_ok=True)
        commands.append(step.command[:2])
        return int(step.command[:2] in broken)

    monkeypatch.setattr(walkthrough, "_run", start)
    monkeypatch.setattr(walkthrough, "draw", lambda folder: [])
    monkeypatch.setattr(walkthrough, "summary", lambda folder, pictures, seconds: "done")
    return commands, broken


def names(scale=FAST, seed=0):
    return [step.command[:2] for step in steps_of(scale, seed)]


@pytest.mark.parametrize("scale", [FAST, WHOLE])
def test_every_command_of_the_quickstart_is_valid(scale):
    for step in steps_of(scale, 0):
        options, rest = _parser().parse_known_args(step.command)
        assert callable(options.run) and all("=" in word for word in rest)
        if step.command[0] == "train":
            assert main([*step.command[:-2], "--print"]) == 0


def test_the_quickstart_resumes_at_the_failed_command(started, tmp_path):
    (commands, broken), said = started, []
    broken.add(("train", "stage1_tiny"))
    assert walkthrough.quickstart(tmp_path / "new", FAST, 0, said.append) == 1
    assert commands == names()[:-1] and "goes on with this command" in said[-1]
    commands.clear(), broken.clear()
    assert walkthrough.quickstart(tmp_path / "new", FAST, 0, said.append) == 0
    assert commands == names()[-2:] and said[-1] == "done"
    commands.clear()
    assert walkthrough.quickstart(tmp_path / "new", FAST, 0, said.append) == 0
    assert commands == []


def test_another_seed_repeats_all_commands_that_depend_on_it(started, tmp_path):
    commands, _ = started
    assert walkthrough.quickstart(tmp_path, FAST, 0, lambda line: None) == 0
    commands.clear()
    assert walkthrough.quickstart(tmp_path, FAST, 1, lambda line: None) == 0
    assert commands == names()
    assert STUDENT in " ".join(steps_of(FAST, 1)[-1].command)
