"""Paths that the machines of a job will not have are named, and those that they have are not."""

import argparse
from pathlib import Path

import pytest

from ivjax.cli import _parser, main
from ivjax.cli.launch import _LAUNCHED
from ivjax.launch.local_paths import _OPTIONS, _WRITTEN

GKE = ("gke", "--set", "topology=v5e:4x4", "--set", "image=registry/ivjax:1", "--dry-run")
ONE_HOST = ("gke", "--set", "topology=v5e:2x2", "--set", "pip=ivjax", "--dry-run")
SLURM = ("slurm", "--set", "topology=h100:8", "--dry-run")
RUN = ("--workdir", "gs://clips-eu/run")
CONFIG = """
from ivjax.experiment import load_experiment

experiment = load_experiment("viclip_tiny", (
    "data.corpora.0.path='gs://clips-us/demo, new'", "data.eval_corpora.0.path=/mnt/held_out",
    "data.corpora.0.changes=('text.tokenizer.path=/mnt/data/other.model',)",
    "data.fields.text.tokenizer.path=x.model",
    "init_from=('vision=gs://clips-us/w.pth#encoder','text=/mnt/data/bert.pth?head=none')",
    "phases=(Phase('a',1),Phase('b',2,('data.corpora.0.path=shards/late',)))",
))
"""


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Launches from an empty folder; returns the status, the warnings and what was rendered."""
    monkeypatch.chdir(tmp_path)

    def launch(*words):
        status = main(["launch", *words])
        captured = capsys.readouterr()
        return status, captured.err.splitlines(), captured.out

    return launch


def options_of(lines):
    return [line.partition(" is ")[0] for line in lines]


def test_every_local_path_of_an_experiment_is_a_sentence_with_its_option_and_the_mend(said):
    status, lines, _ = said(*GKE, "train", "viclip_tiny", *RUN)
    assert status == 0
    assert lines == [
        f"{option} is {path}, which no machine of the job has; copy it into a bucket and write its address "
        f"instead, such as gs://BUCKET/{Path(path).name}, unless the image or setup brings it"
        for option, path in (
            ("data.corpora.0.path", "shards/demo"),
            ("data.fields.text.tokenizer.path", "shards/demo.model"),
            ("data.eval_corpora.0.path", "shards/demo_held_out"),
        )
    ]


def test_weights_and_lists_of_classes_are_named_without_what_is_chosen_of_them(said):
    _, lines, _ = said(*GKE, "train", "finetune_1b_k400:k600", *RUN)
    found = [line.partition(",")[0] for line in lines]
    assert found == [
        "data.corpora.0.path is shards/k600",
        "init_from is 1B_ft_k710_f8.pth",
        "init_from is label_mixto600.json",
    ]


def test_weights_are_named_without_what_is_allowed_of_them(said, tmp_path):
    (tmp_path / "w.pth").touch()
    entries = "('clip_teacher=w.pth?nonfinite=allow#encoder','gone.pth?head=none?nonfinite=allow')"
    _, lines, _ = said(
        *SLURM, "train", "stage1_synthetic", f"init_from={entries}", "--workdir", "/shared/run"
    )
    inside = [line for line in lines if line.startswith("init_from is gone.pth, ")]
    assert len(inside) == 1 and not any("?" in line for line in lines)


def test_addresses_and_paths_below_a_mount_are_no_warning(said):
    corpora = ("data.corpora.0.path=gs://clips-eu/demo", "data.eval_corpora.0.path=/mnt/data/held_out")
    words = (
        "train",
        "viclip_tiny",
        *corpora,
        "data.fields.text.tokenizer.path=/mnt/gs/clips-eu/demo.model",
        *RUN,
    )
    mounted = ("--set", "mounts./mnt/data=gs://clips-us/shards")
    assert said(*GKE, *mounted, *words)[1] == []
    sky = ("skypilot", "--set", "topology=h100:8", "--set", "pip=ivjax", "--dry-run")
    words = (
        "train",
        "viclip_tiny",
        "data.fields.text.tokenizer.path=s3://clips-us/a.model",
        *corpora[:1],
        *RUN,
    )
    assert options_of(said(*sky, *words)[1]) == ["data.eval_corpora.0.path"]
    assert said(*GKE, "train", "stage1_synthetic", *RUN)[1] == []


def test_buckets_that_a_config_file_names_are_mounted_and_its_other_paths_are_told(said, tmp_path):
    (tmp_path / "mine.py").write_text(CONFIG)
    mounted = ("--set", "mounts./mnt/data=gs://clips-us/shards")
    status, lines, out = said(*GKE, *mounted, "train", "mine.py", "steps=3", *RUN)
    (line,) = [line.strip() for line in out.splitlines() if "ivjax launch worker" in line]
    assert status == 0 and line == (
        "exec ivjax launch worker train /etc/ivjax/mine.py steps=3 "
        "'data.corpora.0.path='\"'\"'/mnt/gs/clips-us/demo, new'\"'\"'' "
        "'init_from=('\"'\"'vision=/mnt/gs/clips-us/w.pth#encoder'\"'\"', "
        "'\"'\"'text=/mnt/data/bert.pth?head=none'\"'\"')' --workdir /mnt/gs/clips-eu/run"
    )
    assert "bucketName: clips-us" in out
    assert [line.partition(",")[0] for line in lines] == [
        "data.fields.text.tokenizer.path is x.model",
        "data.eval_corpora.0.path is /mnt/held_out",
        "phases.1.changes is shards/late",
    ]


@pytest.mark.parametrize(
    "words, options",
    [
        (
            (
                "eval",
                "runs/x#encoder",
                "--suite=probe",
                "--train=shards/a",
                "--data",
                "gs://clips/b",
                "--out",
                "r.json",
            ),
            ["weights", "--train", "--out"],
        ),
        (("embed", "videos/", "--weights", "w.pth", "--out", "gs://clips/i.npz"), ["videos", "--weights"]),
        (("data", "build", "list.csv", "shards/out", "--videos", "/v"), ["source", "out", "--videos"]),
        (("data", "show", "gs://clips/demo"), []),
        (("convert", "import", "a.pth", "gs://clips/b.safetensors"), ["file"]),
    ],
)
def test_paths_of_other_commands_are_found_among_their_words(said, words, options):
    status, lines, _ = said(*ONE_HOST, *words)
    assert status == 0 and options_of(lines) == options
    assert all(("machine's disk" in line) == (line.startswith(("out", "--out"))) for line in lines)


def test_on_slurm_a_path_has_to_exist_here_and_not_in_a_folder_of_one_node(said, tmp_path, monkeypatch):
    words = ("train", "viclip_tiny", "data.eval_corpora.0.path=/usr", "--workdir", "/tmp/run")
    _, lines, _ = said(*SLURM, *words)
    assert [line.split("; ")[0] for line in lines] == [
        "--workdir is /tmp/run, and each node has its own /tmp",
        "data.corpora.0.path is shards/demo, " + why(tmp_path),
        "data.fields.text.tokenizer.path is shards/demo.model, " + why(tmp_path),
    ]
    assert all(line.endswith("; put it into a folder that all nodes share") for line in lines)


def why(folder):
    return "and each node has its own /tmp" if folder.is_relative_to("/tmp") else "which does not exist"


def test_on_slurm_the_shared_folders_of_a_target_decide(said):
    words = ("train", "viclip_tiny", "data.corpora.0.path=/data/demo", "--workdir", "/runs/1")
    _, lines, _ = said(*SLURM, "--set", "shared=/data,/runs", *words)
    assert options_of(lines) == ["data.fields.text.tokenizer.path", "data.eval_corpora.0.path"]
    assert all("in none of the folders that the nodes see (/data, /runs); put it" in line for line in lines)


def test_in_an_image_on_slurm_the_mounted_folders_decide(said):
    image = ("--set", "image=registry/ivjax:1", "--set", "container_mounts=/fast/data:/data,/runs")
    words = ("train", "viclip_tiny", "data.corpora.0.path=/data/demo", "data.eval_corpora.0.path=/fast/x")
    _, lines, _ = said(*SLURM, *image, *words, "--workdir", "/runs/1")
    (line,) = lines  # the vocabulary lies below the folder of submission, which is mounted
    assert line.startswith(
        "data.eval_corpora.0.path is /fast/x, which is in none of the folders that tasks in the"
    )
    assert line.endswith("add its folder to container_mounts, as in /data:/data")


def actions_of(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from ((f"{name} {at}".strip(), found) for at, found in actions_of(below))
        else:
            yield "", action


def test_every_option_that_takes_a_file_is_known_as_a_path():
    for command, action in actions_of(_parser()):
        takes_file = {"FILE", "PATH", "DIR", "WEIGHTS|RUN"} & {str(action.metavar)}
        if command.split(" ")[0] not in _LAUNCHED or not takes_file or action.type is Path:
            continue
        # `sweep --launch` reads its target on this machine; `--options` takes a dotted path.
        known = {*_OPTIONS, *_WRITTEN, "target", "options"}
        assert action.dest.removeprefix("suite_") in known, f"{command} {action.dest}: add it to _OPTIONS"
