"""Runs the quickstart's commands in order, resumes where it was stopped, draws pictures and sums up."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.progress import Say
from ivjax.quickstart.commands import (
    CLIP_TEACHER,
    PIXEL_TEACHER,
    PROBE,
    STUDENT,
    QuickstartStep,
    Scale,
    steps_of,
)

_DONE = "quickstart.json"


def quickstart(folder: Path, scale: Scale, seed: int, say: Say) -> int:
    """Runs all commands in `folder`; returns the exit status of the first that fails, or 0."""
    steps, began = steps_of(scale, seed), time.monotonic()
    folder = folder.expanduser().absolute()
    finished = _finished(folder)
    for number, step in enumerate(steps, start=1):
        line = shlex.join(["ivjax", *step.command])
        say(f"\n[{number}/{len(steps)}] {step.about}\n$ {line}")
        if line in finished:
            say(f"done before, in {finished[line]:.0f} s")
            continue
        started = time.monotonic()
        status = _run(step, folder, scale.xla_flags)
        if status:
            say(f"stopped there; the same `ivjax quickstart {folder}` goes on with this command")
            return status
        # Later commands used the old result of this one, so they must run again.
        finished = {
            kept: seconds for kept, seconds in finished.items() if kept in _lines(steps[: number - 1])
        }
        finished[line] = round(time.monotonic() - started, 1)
        store(folder / _DONE, json.dumps(finished, indent=1) + "\n")
    with contextlib.chdir(folder):  # the runs name their corpora and teachers relative to it
        pictures = draw(folder)
    say(summary(folder, pictures, time.monotonic() - began))
    return 0


def draw(folder: Path) -> list[Path]:
    """Draws the pictures of a finished quickstart; returns the files."""
    from ivjax.figures.bars import draw_bars
    from ivjax.figures.curves import draw_curves
    from ivjax.report.masks import draw_masks

    found = _probe(folder)["metrics"]
    accuracies = {"stage 1": found["top1"], "random": found["random_top1"]}
    runs = {
        "clip teacher": folder / CLIP_TEACHER,
        "pixel teacher": folder / PIXEL_TEACHER,
        "stage 1": folder / STUDENT,
    }
    plots = folder / "plots"
    return [
        draw_curves(runs, plots / "losses.png"),
        draw_masks(folder / STUDENT, plots / "masks.png"),
        draw_bars("linear probe for colour", accuracies, found["chance"], plots / "probe.png"),
    ]


def summary(folder: Path, pictures: list[Path], seconds: float) -> str:
    """Returns the results, and what to type next."""
    from ivjax.experiment.run_folder import read_metrics

    losses = [line["loss"] for line in read_metrics(folder / STUDENT) if "loss" in line]
    found = _probe(folder)["metrics"]
    return "\n".join(
        [
            f"\nDone in {seconds:.0f} s.",
            f"  stage 1   loss {losses[0]:.3f} -> {losses[-1]:.3f}",
            f"  probe     colour named right for {found['top1']:.1f} % of held-out clips; from random "
            f"features {found['random_top1']:.1f} %, by chance {found['chance']:.1f} %",
            "  pictures  " + ", ".join(str(path) for path in pictures),
            "",
            f"Next, in {folder}:",
            "  ivjax train stage1_tiny stage.mask.ratio=0.9 --workdir runs/masked    # a run of your own",
            f"  ivjax eval {STUDENT} --suite probe --train shards/demo --data shards/demo_held_out "
            "--attribute background",
            "  ivjax train stage1_1b --print                                         # the released recipe",
        ]
    )


def _run(step: QuickstartStep, folder: Path, xla_flags: str) -> int:
    """Runs a command in a process of its own, as a user would; returns its exit status."""
    environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}; choose another folder") from None
    # A process each: jax reads its flags once, and a crash leaves the walkthrough alive.
    command = [sys.executable, "-m", "ivjax", *step.command]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def _lines(steps: tuple[QuickstartStep, ...]) -> set[str]:
    return {shlex.join(["ivjax", *step.command]) for step in steps}


def _finished(folder: Path) -> dict[str, float]:
    """Returns the commands that are done, with their seconds."""
    try:
        return json.loads((folder / _DONE).read_text())
    except (OSError, json.JSONDecodeError):
        return {}


def _probe(folder: Path) -> dict[str, Any]:
    return json.loads((folder / PROBE).read_text())
