"""Targets and commands: what is read, and one clear sentence for what cannot be."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from ivjax.cli import main
from ivjax.errors import UserError
from ivjax.launch.command import LaunchedCommand
from ivjax.launch.dispatch import render
from ivjax.launch.target import KINDS, example, read_target
from tests.launch.cases import BUCKET, CLOUD, WHEEL_TPU, train

TPU = {"topology": "v5e:4x4", "pip": WHEEL_TPU}

CAPITALS = (
    *("PROJECT", "CLUSTER", "REGISTRY", "ACCOUNT", "BUCKET", "HOST"),
    *("PARTITION", "RESERVATION", "QOS", "FEATURE"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_can_be_used_and_every_line_of_it_is_a_key(kind, tmp_path):
    file = tmp_path / "target.toml"
    text = example(kind)
    for word in CAPITALS:
        text = text.replace(word, word.lower())
    file.write_text(text)
    target = read_target(kind, file)
    assert target == KINDS[kind](**tomllib.loads(text)) and target.wheel == "build"
    # As it stands it renders, except for the names that only its user knows.
    assert render(kind, target, train("/runs/1b" if kind == "slurm" else BUCKET))[0].files
    lines = [line.removeprefix("# ") for line in text.splitlines() if " = " in line]
    values = {key: value for line in lines for key, value in tomllib.loads(line).items()}
    assert set(values) == {name for name in KINDS[kind].__dataclass_fields__}
    for ways in ({"image"}, {"wheel"}, {"pip"}):
        file.write_text(
            "\n".join(line for line in lines if line.split()[0] not in {"image", "wheel", "pip"} - ways)
        )
        assert read_target(kind, file).name == "stage1-1b"


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_names_nothing_that_does_not_exist(kind):
    extras = declared_extras()
    for field in dataclasses.fields(KINDS[kind]):
        shown = str(field.metadata["example"])
        assert not re.search("wandb", shown, re.IGNORECASE)
        # No package index has ivjax: it comes as a wheel, with an extra that setup.py declares.
        for extra in re.findall(r"ivjax\[(\w+)\]", shown):
            assert extra in extras and "@ https://" in shown
        assert not re.fullmatch(r"ivjax(\[\w+\])?", shown)
        # Whatever only its user can know is in capitals.
        if words := set(re.findall(r"\b[A-Z]{3,}\b", shown)) - {"INFO"}:
            assert words <= set(CAPITALS), field.name


@pytest.mark.parametrize(
    "kind, key, value", [("tpu-vm", "project", "PROJECT"), ("gke", "image", "REGISTRY/ivjax:1")]
)
def test_a_word_of_the_example_that_was_left_is_refused(kind, key, value):
    with pytest.raises(
        UserError, match=f"{key} = '{value}': {value.split('/')[0]} stands for a name of yours"
    ):
        read_target(kind, None, [("topology", "v5e:4x4"), ("zone", "us-east5-a"), (key, value)])
    setup = [("topology", "v5e:4x4"), ("setup", "echo $HOST PROJECT")]
    assert read_target("gke", None, setup).setup == "echo $HOST PROJECT"


def declared_extras():
    """The extras of setup.py."""
    text = (Path(__file__).parents[2] / "setup.py").read_text("utf-8")
    return set(re.findall(r'^        "(\w+)": \[', text, re.MULTILINE))


def test_keys_of_the_command_line_override_the_file(tmp_path):
    file = tmp_path / "target.toml"
    file.write_text('topology = "v5e:4x4"\n[env]\nA = "1"\n')
    changes = [("slices", "2"), ("spot", "true"), ("env.B", "$B"), ("image", "registry/ivjax")]
    target = read_target("gke", file, changes)
    assert (target.slices, target.spot, target.env) == (2, True, {"A": "1", "B": "$B"})
    assert (target.plain, target.passed) == ({"A": "1"}, ("B",))


@pytest.mark.parametrize(
    "kind, text, words",
    [
        ("gke", 'topolgy = "v5e:4x4"', "a gke target has no 'topolgy'; did you mean 'topology'"),
        ("gke", 'image = "x"', "needs 'topology'"),
        ("tpu-vm", 'topology = "v5e:4x4"', "needs 'project'"),
        ("gke", 'topology = "v5e:4x4"\nslices = "2"', "slices = '2': expected an integer"),
        ("gke", 'topology = "v5e:4x4"\nspot = 1', "spot = 1: expected true or false"),
        ("gke", 'topology = "v5e:4x4"\nclient = "helm"', "expected one of kubectl, xpk"),
        ("gke", 'topology = "v5e:4x4"\nenv = { A = 1 }', "expected a table of texts"),
        (
            "gke",
            'topology = "v5e:4x4"\nimage = "x"\nwheel = "build"',
            "gives image and wheel; give one",
        ),
        ("gke", 'topology = "v5e:4x4"\nname = "Stage_1"', "small letters, digits and hyphens"),
        ("gke", f'topology = "v5e:4x4"\nname = "{"a" * 41}"', "at most 40"),
        ("gke", 'topology = "v5e:4x4"\nslices = 0', "slices = 0; it must be at least 1"),
        ("slurm", 'topology = "h100:8', "is not TOML"),
    ],
)
def test_a_bad_target_is_one_sentence(kind, text, words, tmp_path):
    (tmp_path / "target.toml").write_text(text)
    with pytest.raises(UserError, match=words):
        read_target(kind, tmp_path / "target.toml")


def test_no_target_file_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot read the target .*: No such file"):
        read_target("gke", tmp_path / "none.toml")


@pytest.mark.parametrize(
    "kind, values, job, words",
    [
        ("gke", TPU | {"topology": "v5e:3x3"}, train(BUCKET), "v5e:3x3' does not exist"),
        ("gke", TPU, train("runs/1b"), "runs/1b is in no mounted bucket"),
        ("gke", TPU, train("s3://clips/1b"), "s3://clips: this kind of target mounts gs://; put"),
        ("skypilot", TPU, train("s3://clips/1b"), "in no mounted bucket"),
        ("gke", TPU, train("gs://BUCKET/1b"), "no bucket is called 'BUCKET'"),
        ("gke", TPU, train("gs://clips-eu"), "gs://clips-eu is a whole bucket; name a folder in it"),
        ("gke", TPU, train("gs:///runs/1b"), "gs:///runs/1b names no bucket; write gs://BUCKET/PATH"),
        (
            "slurm",
            {"topology": "h100:8"},
            train(BUCKET),
            "gs://clips-eu: this kind of target mounts no bucket",
        ),
        ("slurm", {"topology": "v5e:4x4"}, train("runs/1b"), "a Slurm target has GPUs"),
        ("slurm", {"topology": "h100:8", "image": "x"}, train("/data/1b"), "not seen inside the image"),
        (
            "tpu-vm",
            {"topology": "h100:8", "pip": "ivjax", **CLOUD},
            train(BUCKET),
            "a tpu-vm target has TPUs",
        ),
        ("tpu-vm", {"topology": "tpu7x:2x2x1", "pip": "ivjax", **CLOUD}, train(BUCKET), "has no TPU VMs"),
        ("skypilot", TPU | {"slices": 2}, train(BUCKET), "SkyPilot does not join slices"),
        ("gke", {"topology": "h100:8", "slices": 2, "pip": "ivjax"}, train(BUCKET), "GPUs have no slices"),
        ("gke", {"topology": "cpu:8", "pip": "ivjax"}, train(BUCKET), "GKE needs TPUs or GPUs"),
        ("gke", {"topology": "v5e:4x4"}, train(BUCKET), "needs image, wheel or pip"),
        ("gke", TPU | {"client": "xpk"}, train(BUCKET), "needs cluster and project and zone and image too"),
        ("gke", {"topology": "v5e:4x4", "wheel": "none.whl"}, train(BUCKET), "there is no such file"),
        ("gke", TPU | {"mounts": {"data": "gs://clips"}}, train(BUCKET), "write a folder from the root"),
        ("gke", TPU, LaunchedCommand(("train", "stage1_1b"), "stage1_1b"), "add --workdir"),
        (
            "gke",
            TPU,
            LaunchedCommand(("embed", BUCKET)),
            "embed runs in one process and the target has 4 hosts",
        ),
        (
            "gke",
            TPU,
            LaunchedCommand(("sweep", "stage1_1b", "--workdir", BUCKET)),
            "sweep runs in one process and the target has 4 hosts; .*, or start each run by itself: ivjax sw",
        ),
    ],
)
def test_an_impossible_launch_is_one_sentence(kind, values, job, words):
    with pytest.raises(UserError, match=words) as raised:
        render(kind, KINDS[kind](**values), job)
    assert "\n" not in str(raised.value)


def test_commands_of_one_process_are_not_started_in_several(capsys):
    assert main(["launch", "local", "--processes", "2", "sweep", "stage1_tiny", "--workdir", "runs"]) == 2
    assert "sweep runs in one process, and train and eval in several" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, words",
    [
        (["trian", "stage1_tiny"], "'trian' cannot be launched .*did you mean 'train'"),
        (["train", "stage9", "--workdir", "w"], "no config 'stage9'"),
        (["train", "stage1_tiny", "lr=1", "--workdir", "w"], "did you mean 'schedule.peak'"),
    ],
)
def test_a_local_launch_says_once_what_is_wrong(capsys, command, words):
    assert main(["launch", "local", "--processes", "2", *command]) == 2
    error = capsys.readouterr().err
    assert re.search(words, error) and error.count("\n") == 1


def test_the_users_own_config_travels_with_the_job(tmp_path):
    config = tmp_path / "My_run.v2.py"
    config.write_text("experiment = 1\n\nif True:\n    x = 2\n")
    for kind, values in (("gke", TPU), ("tpu-vm", TPU | CLOUD), ("skypilot", TPU)):
        result, folder = render(kind, KINDS[kind](**values), train(BUCKET, config=str(config)))
        assert (result.name, str(folder)) == ("my-run-v2", "jobs/my-run-v2")
        text = "\n".join(result.files.values())
        there = {"gke": "/etc/ivjax", "tpu-vm": "/opt/ivjax/my-run-v2", "skypilot": "/tmp/ivjax"}[kind]
        assert f"ivjax launch worker train {there}/My_run.v2.py --workdir" in text
        carried = "    experiment = 1\n\n    if True:\n        x = 2\n" if kind == "gke" else str(config)
        assert carried in text


def test_the_command_line_shows_and_writes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = [
        "--set",
        "topology=h100:16",
        "--dry-run",
        "train",
        "stage1_synthetic",
        "steps=9",
        "--workdir",
        "/runs/a",
    ]
    assert main(["launch", "slurm", *shown]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# jobs/stage1-synthetic/stage1-synthetic.sbatch\n#!/bin/bash\n")
    assert "ivjax launch worker train stage1_synthetic steps=9 --workdir /runs/a\n" in printed
    assert printed.endswith("#   sbatch jobs/stage1-synthetic/stage1-synthetic.sbatch\n")
    assert list(tmp_path.iterdir()) == []
    assert main(["launch", "slurm", "--out", "here", *shown]) == 0
    assert (tmp_path / "here" / "stage1-synthetic.sbatch").read_text() in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_launch_says_once_that_steps_do_not_follow_the_batch(tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    batch = "batch=32" if command == "train" else "batch=16,32"
    job = (command, "stage1_synthetic", batch, "seed=1", "--workdir", "/runs/a")
    assert main(["launch", "slurm", "--set", "topology=h100:8", "--dry-run", *job]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("batch is 32 instead of 16; steps=300") and captured.err.count("\n") == 1
    assert captured.out.startswith("# jobs/")


@pytest.mark.parametrize(
    "command, words",
    [
        (["trian", "stage1_1b"], "'trian' cannot be launched"),
        (["train", "stage9", "--workdir", "w"], "no config 'stage9'"),
        (["train", "stage1_synthetic", "step=1", "--workdir", "w"], "did you mean 'steps'"),
        ([], "launch slurm needs a command to run"),
    ],
)
def test_a_bad_command_is_an_error_before_anything_is_rendered(command, words, capsys):
    assert main(["launch", "slurm", "--set", "topology=h100:8", "--dry-run", *command]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_a_job_knows_the_file_and_the_variants_of_its_config(tmp_path):
    shipped = LaunchedCommand(("train", "finetune_1b_k400:k600+f16"), "finetune_1b_k400:k600+f16")
    assert shipped.file is None and shipped.name == "finetune-1b-k400-k600-f16"
    config = f"{tmp_path}/mine.py:k600"
    own = LaunchedCommand(("train", config), config)
    assert own.file == tmp_path / "mine.py" and own.name == "mine-k600"
    assert "train /configs/mine.py:k600" in own.line([], "/configs/mine.py")
