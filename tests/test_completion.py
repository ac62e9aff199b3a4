"""`ivjax completion`: what a shell offers after TAB; and `python -m ivjax`."""

import shutil
import subprocess
import sys

import pytest

from ivjax.cli import main
from ivjax.experiment.files import shipped_configs
from tests.train.processes import ROOT

# Sets what bash tells a completion of the words so far, the last of which is being typed.
_TRY = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _ivjax; printf "%s\\n" "${COMPREPLY[@]}"'


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """A file of what `ivjax completion bash` prints, and of what completes the words that it is given."""
    command = [sys.executable, "-m", "ivjax", "completion", "bash"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    file = tmp_path_factory.mktemp("completion") / "ivjax.bash"
    file.write_text(f"{printed}{_TRY}\n")
    return file


def completed(script, *words):
    done = subprocess.run(["bash", str(script), "ivjax", *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tra"], ["train"]),
        (["data", "val"], ["validate"]),
        (["train", "stage1_ti"], ["stage1_tiny"]),
        (["train", "stage1_tiny", "--work"], ["--workdir"]),
        (["data", "build", "x.jsonl", "--vid"], ["--videos"]),
        (["eval", "runs/a", "--suite", "retr"], ["retrieval"]),
        (["completion", ""], ["bash", "zsh"]),
        (["data", "tokenizer", ""], ["train"]),
        # Names of files are left to the shell.
        (["chat", "clip.m"], []),
        (["eval", ""], []),
    ],
)
def test_bash_completes_commands_options_choices_and_configs(script, words, offered):
    assert completed(script, *words) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_every_shipped_config_and_command_is_offered(script):
    assert completed(script, "plan", "") == list(shipped_configs())
    assert {"quickstart", "train", "launch", "completion"} <= set(completed(script, ""))
    assert "--version" in completed(script, "-")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_the_script(tmp_path, capsys):
    assert main(["completion", "zsh"]) == 0
    (tmp_path / "ivjax.zsh").write_text(capsys.readouterr().out)
    command = ["zsh", "-f", "-c", "source ./ivjax.zsh; print $_comps[ivjax]"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "_ivjax" in done.stdout and done.stderr == ""
