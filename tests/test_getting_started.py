"""The five commands of docs/getting_started.md: they parse, and they make a classifier that is right."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from ivjax.cli import _parser, main
from ivjax.data_pipelines.video.encode import Encoding, encode_video
from tests.train.processes import ROOT
from tests.xla import quick_flags

SECTION = (ROOT / "docs" / "getting_started.md").read_text().split("\n## ")[1]
COLOURS = {"red": (220, 50, 40), "green": (40, 190, 50), "blue": (40, 60, 220)}
TRAIN, TEST = 16, 8  # videos of a class


def commands():
    """The words of every command of the page's section, without `ivjax`."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", SECTION, re.S)).replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in blocks.splitlines()]


def pictures(colour, number):
    """A square that falls over a grey ground, with noise: 16 frames (64, 96, 3) uint8."""
    rng = np.random.default_rng([number, *colour])
    ground, side = rng.integers(60, 190), rng.integers(20, 32)
    left = rng.integers(96 - side)
    for frame in range(16):
        picture = ground + rng.integers(-10, 10, (64, 96, 3))
        top = frame * (64 - side) // 15
        picture[top : top + side, left : left + side] = colour
        yield np.clip(picture, 0, 255).astype(np.uint8)


def draw(folder):
    """Draws the folders of labelled videos that the page describes."""
    for part, numbers in (("train", range(TRAIN)), ("test", range(100, 100 + TEST))):
        for name, colour in COLOURS.items():
            place = folder / "videos" / part / name
            place.mkdir(parents=True)
            for number in numbers:
                video = encode_video(pictures(colour, number), Fraction(8), Encoding(preset="ultrafast"))
                (place / f"{number:04d}.mp4").write_bytes(video)


def run(folder, *words):
    """Runs a command in a folder, as a user does; returns what it printed."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": quick_flags(1),
    }
    command = [sys.executable, "-m", "ivjax", *words]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_every_command_of_the_tutorial_is_valid(capsys):
    assert [words[:2] for words in commands()[:5]] == [
        ["data", "build"],
        ["data", "build"],
        ["train", "teacher_pixels_tiny"],
        ["train", "finetune_own"],
        ["eval", "runs/finetuned"],
    ]
    for words in commands():
        options, rest = _parser().parse_known_args(words)
        assert callable(options.run) and all("=" in word for word in rest), words
        if words[0] == "train":
            assert main([*words[: words.index("--workdir")], "--print"]) == 0


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_five_commands_make_a_classifier_that_is_right_and_can_be_moved(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    draw(there)
    printed = [run(there, *words) for words in commands()[:5]]
    assert "3 classes: 0 blue, 1 green, 2 red" in printed[0]
    result = json.loads((there / "result.json").read_text())
    assert result["metrics"]["top1"] > 85 and result["metrics"]["chance"] == 33.33
    assert [(one["name"], one["clips"]) for one in result["by_class"]] == [(n, TEST) for n in sorted(COLOURS)]
    assert result["protocol"]["frames and pictures by"] == "the run (data.fields.video)"
    said = [json.loads(line) for line in (there / "predictions.jsonl").read_text().splitlines()]
    assert len(said) == 3 * TEST and {line["name"] for line in said} == set(COLOURS)

    shutil.move(there / "runs" / "finetuned", tmp_path / "moved")
    shutil.rmtree(there / "runs")
    # The videos themselves, by the names of their folders: the shards of the test set are not needed.
    again = ("eval", str(tmp_path / "moved"), "--suite", "classify", "--data", "videos/test", "--json")
    metrics = json.loads(run(there, *again))["metrics"]
    assert metrics["top1"] == pytest.approx(result["metrics"]["top1"], abs=5)
