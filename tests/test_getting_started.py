"""The five commands of docs/getting_started.md make a classifier that is right."""

import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from ivjax.data_pipelines.video.encode import Encoding, encode_video
from tests.docs.pages import blocks, lines
from tests.train.processes import ROOT
from tests.xla import quick_flags

COLOURS = {"red": (220, 50, 40), "green": (40, 190, 50), "blue": (40, 60, 220)}
TRAIN, TEST = 16, 8  # videos of a class


def commands():
    """The words of the page's commands that need nothing, without `ivjax`."""
    found = [block for block in blocks("docs/getting_started.md") if block.language == "sh"]
    return [line.commands[0][1:] for block in found for line in lines(block) if line.needs is None]


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


def test_the_tutorial_has_five_commands():
    assert [words[:2] for words in commands()] == [
        ["data", "build"],
        ["data", "build"],
        ["train", "teacher_pixels_tiny"],
        ["train", "finetune_own"],
        ["eval", "runs/finetuned"],
    ]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_five_commands_make_a_classifier_that_is_right_and_can_be_moved(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    draw(there)
    printed = [run(there, *words) for words in commands()]
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
