"""The command line: what it prints and its exit status."""

import argparse
import ast
import errno
import os
import re
import shlex

import jax
import pytest

from ivjax.cli import _parser, main
from ivjax.errors import UserError
from ivjax.experiment.files import shipped_configs
from ivjax.train.distributed import Job, _join_cluster, join
from tests.commands import check_command


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """The tests' devices exist already, so the command must not look for a job to join."""
    monkeypatch.setattr("ivjax.train.distributed.join", lambda job: None)


def test_a_setting_with_dashes_is_told_how_it_is_written(capsys):
    with pytest.raises(SystemExit) as left:
        main(["train", "stage1_tiny", "--lr", "3"])
    assert left.value.code == 2
    assert "unrecognized arguments: --lr 3; settings are written path=value" in capsys.readouterr().err


def test_of_a_long_command_line_little_is_repeated(capsys):
    for command in (["x" * 100_000], ["train", "stage1_tiny", f"--{'x' * 100_000}"], ["\x1b[2J\ud83d"]):
        with pytest.raises(SystemExit) as left:
            main(command)
        line = capsys.readouterr().err.splitlines()[-1]
        assert left.value.code == 2 and len(line) < 1100 and line.isprintable()


@pytest.mark.parametrize("end", ["raise SystemExit(3)", "import sys; sys.exit()", "raise GeneratorExit"])
def test_a_config_that_ends_the_program_is_named(end, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(end)
    assert main(["train", str(tmp_path / "mine.py"), "--print"]) == 2
    assert "mine.py fails with " in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, words",
    [
        (["data", "validate", "NONE", "--decode", "9" * 5000], "is not a number of clips, nor all"),
        (["convert", "import", "NONE", "OUT", "--shard-size", "9" * 5000], "is no size"),
        (["train", "stage1_synthetic", f"schedule.peak={'-' * 5000}1", "--print"], "expected a number"),
        (["train", "stage1_synthetic", f"stage.weights={'-' * 5000}1", "--print"], "expected "),
        (["train", "stage1_synthetic", f"stage.weights={'(' * 5000}", "--print"], "expected "),
    ],
)
def test_a_word_that_python_does_not_read_is_named(command, words, capsys):
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and len(line) < 3100


def test_print_shows_the_resolved_config_and_the_difference(capsys):
    assert main(["train", "stage1_synthetic", "stage.mask.ratio=0.5", "--print"]) == 0
    printed = capsys.readouterr().out
    assert "stage.mask.ratio = 0.5\n" in printed
    assert "against stage1_synthetic:\nstage.mask.ratio: 0.75 -> 0.5\n" in printed


def test_overrides_may_stand_before_and_after_options(capsys):
    assert main(["train", "stage1_synthetic", "steps=8", "--print", "batch=32"]) == 0
    printed = capsys.readouterr().out
    assert "steps = 8\n" in printed and "batch = 32\n" in printed
    with pytest.raises(SystemExit) as ended:
        main(["train", "stage1_synthetic", "--prnt", "batch=32"])
    assert ended.value.code == 2 and "unrecognized arguments: --prnt" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["no_such_config"], "no config 'no_such_config'"),
        (["stage1_synthetic", "steps.x=1"], "did you mean 'steps'"),
        (["stage1_synthetic", "steps=soon"], "expected an integer"),
        (["stage1_synthetic"], "add --workdir"),
        (["stage1_synthetic", "mesh.fsdp=3", "--workdir", "RUN"], "8 / 3 = 2.67"),
        (
            ["stage1_synthetic", "batch=12", "steps=9", "--workdir", "RUN"],
            "does not divide into 8 equal parts",
        ),
        (["stage1_synthetic", "--workdir", "/proc/ivjax-no"], "cannot write in the run folder /proc/iv"),
        (["stage1_synthetic", "--workdir", "gs://bucket"], "gs://bucket is a whole bucket; name a folder"),
        (["stage1_synthetic", "data.clips=0", "--workdir", "RUN"], "holds no clips"),
        (["stage1_synthetic", "mesh.context=2", "--workdir", "RUN"], "cannot split the 17 tokens"),
        (["stage1_synthetic", "log.every=0", "--workdir", "RUN"], "log.every=0; it must be at least 1"),
        (["stage1_synthetic", "ema=1", "--workdir", "RUN"], "it must be above 0 and below 1"),
        (["stage1_synthetic", "stage.student.heads=5", "--workdir", "RUN"], "does not divide into 5 heads"),
        (["stage1_synthetic", "stage.clip.layers=9", "--workdir", "RUN"], "do not fit 4 layers"),
        (["stage1_synthetic", "stage.student.patch=15", "--workdir", "RUN"], "do not divide into tubelets"),
        (["stage1_synthetic", "stage.mask.ratio=1.5", "--workdir", "RUN"], "must be at least 0 and below 1"),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(arguments, words, capsys, tmp_path):
    arguments = [str(tmp_path / "run") if a == "RUN" else a for a in arguments]
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ivjax train: ") and words in error
    assert error.count("\n") == 1


def test_a_run_does_not_overwrite_a_published_model(tmp_path, capsys):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert main(["train", "stage1_synthetic", "--workdir", str(tmp_path)]) == 2
    assert f"choose another --workdir, and init_from=('{tmp_path}',)" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("words", [["train", "{}.py"], ["convert", "inspect", "{}"], ["train", "{}"]])
def test_a_path_of_any_length_is_one_sentence(words, capsys):
    assert main([word.format("a" * 5000) for word in words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_full_disk_is_one_sentence_whatever_was_written(tmp_path, monkeypatch, capsys):
    file = tmp_path / "owner.json"

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    monkeypatch.setattr("ivjax.train.owner._take", fail)
    assert main(["train", "stage1_synthetic", "--workdir", str(tmp_path)]) == 2
    said = f"ivjax train: {file} cannot be written: No space left on device; make room and run again\n"
    assert capsys.readouterr().err == said


def test_a_run_needs_the_name_of_a_folder(capsys):
    for name in ("", " ", "a\0b"):
        with pytest.raises(SystemExit) as ended:
            main(["train", "stage1_synthetic", "--workdir", name])
        assert ended.value.code == 2 and f"expected a folder, got {name!r}" in capsys.readouterr().err


def test_a_machine_that_is_no_cluster_is_asked_once(monkeypatch):
    asked = []

    def refuse():
        asked.append(1)
        raise ValueError("no cluster") if len(asked) == 1 else RuntimeError("must be called before")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    _join_cluster.cache_clear()
    join(Job())
    join(Job())
    assert asked == [1]


@pytest.mark.parametrize(
    "job, words",
    [
        (Job(coordinator="localhost:1"), "belong together"),
        (Job("localhost:1", 2, 2), "--process 2 is not one of 0..1"),
    ],
)
def test_a_job_needs_all_of_its_flags(job, words):
    with pytest.raises(UserError, match=words):
        join(job)


def commands_below(parser, words=()):
    """The words of every command, and its parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield (*words, name), below
                yield from commands_below(below, (*words, name))


def test_every_command_has_a_help_that_fits_a_terminal_and_an_example(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    commands = dict(commands_below(_parser()))
    assert {("train",), ("launch", "local"), ("data", "tokenizer", "train")} <= set(commands)
    for words, parser in commands.items():
        help = parser.format_help()
        assert "example:\n  ivjax " in help, words
        assert max(map(len, help.partition("example:")[0].splitlines())) <= 110, words
    with pytest.raises(SystemExit) as ended:
        main(["bench", "step", "--help"])
    assert ended.value.code == 0 and "example:\n  ivjax bench step " in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_the_commands_of_a_config_are_ones_that_the_program_takes(name):
    header = ast.get_docstring(ast.parse(shipped_configs()[name].read_text()))
    # A note may follow a command after two spaces.
    commands = re.findall(r"^(?:Command)? +ivjax (.+?)(?:  |$)", re.sub(r"\\\n +", "", header), re.M)
    assert commands
    for command in commands:
        check_command(shlex.split(command))
