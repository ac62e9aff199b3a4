"""Runs compared: at equal steps and at equal FLOPs, from what their folders say."""

import csv
import json
import math

import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.experiment.overrides import apply_overrides
from ivjax.sweep.histories import note_failure, read_history
from ivjax.sweep.results import Ranking, compare, csv_of, table_of, write_results
from tests.train.micro import experiment


def history(root, name, losses, cost, steps=20, every=5, extra=()):
    """A run that logged `losses` at every `every`-th step and paid `cost` for each."""
    folder, lines = root / name, [{"step": every * n, "loss": loss} for n, loss in enumerate(losses, start=1)]
    folder.mkdir(parents=True)
    lines = sorted([*lines, *extra], key=lambda line: line["step"])
    lines = [line | ({"flops": cost * line["step"]} if "loss" in line else {}) for line in lines]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    value = name.split("=")[1]
    return read_history(
        folder, name, {"a": value}, apply_overrides(experiment, [f"steps={steps}", f"log.every={every}"])
    )


@pytest.fixture
def runs(tmp_path):
    return [
        history(tmp_path, "a=1", [4.0, 3.0, 2.0, 1.0], cost=2.0),
        history(tmp_path, "a=2", [5.0, 2.5, 1.5, 0.5], cost=4.0),
        history(tmp_path, "a=3", [4.0, math.nan], cost=2.0, steps=10),
        history(tmp_path, "a=4", [9.0, 8.0], cost=2.0),
    ]


def test_runs_are_compared_at_the_last_common_step_and_interpolated_at_equal_flops(runs):
    compared = compare(runs[:2], Ranking())
    assert (compared.steps, compared.at_steps) == (20, (1.0, 0.5))
    # The first run has spent 40 in the end, the second after 10 steps.
    assert (compared.flops, compared.at_flops) == (40.0, (1.0, 2.5))
    assert compared.ranked(compared.at_steps) == [1, 0] and compared.ranked(compared.at_flops) == [0, 1]
    assert compare(runs[:2], Ranking(highest=True)).ranked(compared.at_steps) == [0, 1]
    shorter = compare(runs[:3], Ranking())
    assert (shorter.steps, shorter.flops) == (10, 20.0)
    np.testing.assert_allclose(shorter.at_flops, (3.0, 5.0, math.nan))
    assert shorter.ranked(shorter.at_steps) == [1, 0, 2]


def test_the_table_sorts_by_step_and_by_flops_and_lists_unfinished_runs(runs, tmp_path):
    note_failure(tmp_path / "a=3", "ran out of memory")
    failed = read_history(tmp_path / "a=3", "a=3", {"a": "3"}, apply_overrides(experiment, ["steps=10"]))
    runs = [*runs[:2], failed, runs[3]]
    compared = compare(runs, Ranking())
    assert table_of(runs, compared) == (
        "a  loss at step 20\n2  0.5\n1  1\n\n"
        "a  loss at 40 FLOP\n1  1\n2  2.5\n\n"
        "a=3: failed: ran out of memory\na=4: unfinished, step 10 of 20\n"
    )
    rows = list(csv.DictReader(csv_of(runs, compared).splitlines()))
    assert [row["run"] for row in rows] == ["a=1", "a=2", "a=3", "a=4"]
    assert rows[1] == {
        "run": "a=2",
        "a": "2",
        "state": "finished",
        "steps": "20",
        "flops": "80",
        "loss at step 20": "0.5",
        "loss at 40 FLOP": "2.5",
    }
    assert rows[3]["loss at step 20"] == "" and rows[3]["flops"] == "20"


def test_a_log_line_written_at_a_stop_is_ignored(runs, tmp_path):
    stopped = history(
        tmp_path / "stopped", "a=1", [4.0, 3.0, 2.0, 1.0], 2.0, extra=[{"step": 7, "loss": 100.0}]
    )
    assert stopped == runs[0]


def test_runs_are_sorted_by_eval_loss_if_it_was_logged(tmp_path):
    def run(name, eval_losses):
        lines = [
            {"step": step, "eval/loss": value} for step, value in zip((10, 20), eval_losses, strict=True)
        ]
        return history(tmp_path, name, [4.0, 3.0, 2.0, 1.0], 2.0, extra=lines)

    runs = [run("a=1", (3.0, 2.0)), run("a=2", (3.0, 1.0))]
    assert compare(runs, Ranking()).at_flops == (2.0, 1.0)
    assert compare(runs, Ranking("loss")).at_flops == (1.0, 1.0)
    with pytest.raises(UserError, match="no finished run has logged los; did you mean 'loss'"):
        compare(runs, Ranking("los"))


def test_table_csv_and_a_picture_of_each_swept_path_are_written(runs, tmp_path):
    out = tmp_path / "out"
    table = write_results(runs, Ranking(), out)
    assert (out / "table.txt").read_text() == table and "diverged" in table
    assert (out / "results.csv").read_text().count("\n") == 5
    assert {file.name for file in (out / "plots").iterdir()} == {"a.png", "curves.png"}
    for file in (out / "plots").iterdir():
        assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 5000
    assert write_results([], Ranking(), tmp_path / "none") == "\n"
