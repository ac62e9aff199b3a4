"""Values that would break out of a rendered file: refused, or written so that they stay values."""

import dataclasses
import os
import subprocess

import pytest
import yaml

from ivjax.errors import UserError
from ivjax.launch.command import LaunchedCommand
from ivjax.launch.dispatch import render
from ivjax.launch.target import KINDS
from tests.launch.cases import BUCKET, CLOUD, train

TOUCH = "touch $MARK"
VALUES = (
    f"x; {TOUCH}",
    f"$({TOUCH})",
    f"`{TOUCH}`",
    f"a' ; {TOUCH} ; '",
    f'"; {TOUCH}; "',
    f"x\n{TOUCH} #",
    "x: y # z",
    "*x {a: [b}, &c",
    "x\u2028kind: Pod",
)
BASES = {
    "slurm": {"topology": "h200:8", "image": "registry/ivjax:1", "container_mounts": "/shared:/shared"},
    "tpu-vm": {"topology": "v5e:4x4", "pip": "ivjax", **CLOUD},
    "gke": {"topology": "v5e:4x4", "image": "registry/ivjax:1"},
    "xpk": {"topology": "v5e:4x4", "image": "registry/ivjax:1", "client": "xpk", "cluster": "pods", **CLOUD},
    "skypilot": {"topology": "h200:8", "pip": "ivjax"},
}
# Shell lines are the user's own, and are there to be run; names and kinds have few values.
LEFT_OUT = ("setup", "name", "topology", "client", "wheel")


def texts_of(kind):
    """The fields of a target that hold a text."""
    cls = KINDS["gke" if kind == "xpk" else kind]
    return [f.name for f in dataclasses.fields(cls) if f.type in (str, "str") and f.name not in LEFT_OUT]


def made(kind, values, job):
    """The files of a launch; None if it is refused."""
    real = "gke" if kind == "xpk" else kind
    try:
        return render(real, KINDS[real](**(BASES[kind] | values), name="job"), job)[0].files
    except UserError as error:
        assert str(error).isprintable()
        return None


def hostile(kind):
    """All launches with one hostile value: (values of the target, command)."""
    runs = "/shared/runs" if kind == "slurm" else BUCKET
    for value in VALUES:
        for name in texts_of(kind):
            clear = {"image": ""} if name in ("pip",) else {"pip": ""} if name == "image" else {}
            yield {**clear, name: value}, train(runs)
        yield {"env": {"MODE": value}}, train(runs)
        for words in ((f"{runs}/{value}",), (runs, f"init_from=('{value}',)")):
            try:
                yield {}, train(*words)
            except UserError:
                continue


@pytest.fixture
def clients(tmp_path):
    """An environment in which all clients do nothing, and a file that appears if a value is run."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in ("srun", "scontrol", "gcloud", "xpk", "python3", "sudo", "docker"):
        (stubs / name).write_text("#!/bin/bash\nexit 0\n")
        (stubs / name).chmod(0o755)
    mark = tmp_path / "mark"
    return os.environ | {
        "PATH": f"{stubs}:{os.environ['PATH']}",
        "MARK": str(mark),
        "SLURM_JOB_ID": "1",
    }, mark


@pytest.mark.parametrize("kind", ["slurm", "tpu-vm", "xpk"])
def test_no_value_is_run_by_a_rendered_script(kind, clients, tmp_path):
    environment, mark = clients
    rendered = 0
    for values, job in hostile(kind):
        files = made(kind, values, job)
        for name, text in (files or {}).items():
            script = tmp_path / name
            script.write_text(text)
            if name.endswith(".service"):
                continue
            rendered += 1
            subprocess.run(["bash", "-n", script], check=True)
            if name in ("job.sbatch", "job.sh", "job.xpk.sh"):
                subprocess.run(
                    ["bash", script, "create"], env=environment, cwd=tmp_path, capture_output=True, timeout=30
                )
            assert not mark.exists(), (values, job.words, name)
    assert rendered > 20


def keys(tree):
    """The structure of a YAML document, without its values."""
    if isinstance(tree, dict):
        return {key: keys(value) for key, value in tree.items()}
    return [keys(value) for value in tree] if isinstance(tree, list) else type(tree)


@pytest.mark.parametrize("kind", ["gke", "skypilot"])
def test_no_value_becomes_a_part_of_a_document(kind):
    rendered = 0
    for values, job in hostile(kind):
        files = made(kind, values, job)
        for text in (files or {}).values():
            rendered += 1
            harmless = {
                name: {"MODE": "x"} if name == "env" else value and "x" for name, value in values.items()
            }
            (expected,) = made(kind, harmless, train(BUCKET)).values()
            found = list(yaml.safe_load_all(text))
            assert keys(found) == keys(list(yaml.safe_load_all(expected))), (values, job.words)
    assert rendered > 20


def test_control_characters_are_refused_and_said():
    for bad in ("a\nb", "a\rb", "a\x00b", "a\x1bb", "a\u2028b"):
        with pytest.raises(UserError, match="a word of the command = .* has the control character"):
            LaunchedCommand(("train", "stage1_1b", "--workdir", bad))
        with pytest.raises(UserError, match="queue = .* has the control character"):
            KINDS["gke"](topology="v5e:4x4", queue=bad)
        with pytest.raises(UserError, match="env.A = .* has the control character"):
            KINDS["gke"](topology="v5e:4x4", env={"A": bad})
    assert KINDS["gke"](topology="v5e:4x4", setup="ulimit -n 65536\n\techo ready\n").setup


def test_a_variable_is_taken_under_its_own_name_alone():
    assert KINDS["slurm"](topology="h200:8", env={"A": "$A"}).passed == ("A",)
    with pytest.raises(UserError, match=r"env.B = '\$A': of the shell that launches, only \$B can be taken"):
        KINDS["slurm"](topology="h200:8", env={"B": "$A"})


def test_options_of_sbatch_have_no_blanks():
    with pytest.raises(UserError, match="partition = 'a b': sbatch takes no blanks"):
        render("slurm", KINDS["slurm"](topology="h200:8", partition="a b", name="job"), train("/shared/runs"))
