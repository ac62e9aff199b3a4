"""A sweep around its workers: what is done, done again, refused and reported. The training is made up."""

import argparse
import json
from pathlib import Path

import pytest

from ivjax.cli import sweep as command
from ivjax.errors import UserError
from ivjax.sweep.pool import Pool
from ivjax.sweep.remote import launch_commands
from ivjax.sweep.requests import answer
from ivjax.sweep.sweep_folder import read_sweep_folder
from tests.train.processes import MICRO

GRID = ("schedule.peak=1e-3,2e-3", "batch=8,16", "steps=4")


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """`ivjax sweep` with workers that write two log lines; those of runs in `broken` fail."""

    class Sweep:
        folder = tmp_path / "sweep"
        trained, broken, plan = [], set(), {"size": 10, "limit": 1000}

        def __call__(self, *arguments):
            parser = argparse.ArgumentParser()
            command.add(parser.add_subparsers())
            options = parser.parse_args(["sweep", *arguments, "--workdir", str(self.folder)])
            self.trained.clear()
            self.status = options.run(options)
            return capsys.readouterr().out

        def ask(self, pool, request):
            if request["do"] == "preflight":
                checks = [self._checked(run) for run in request["runs"]]
                return {"status": "done", "platform": "cpu", "checks": checks}
            run = request["run"]
            self.trained.append(run["name"])
            if run["name"] in self.broken:
                return {"status": "failed", "why": "no luck"}
            self._train(Path(run["folder"]), run["overrides"])
            return {"status": "done"}

        def _checked(self, run):
            batch = next(override for override in run["overrides"] if override.startswith("batch"))
            return self.plan | {"key": batch, "shared": ["schedule.peak"]}

        def _train(self, folder, overrides):
            peak = float(overrides[0].split("=")[1])
            lines = [{"step": step, "loss": 1 - peak * step, "flops": 1e9 * step} for step in (1, 4)]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            (folder / "result.json").write_text("{}")

    fake = Sweep()
    monkeypatch.setattr(Pool, "ask", lambda pool, request: fake.ask(pool, request))
    for picture in ("draw_axes", "draw_runs"):
        monkeypatch.setattr(f"ivjax.figures.sweeps.{picture}", lambda *arguments: None)
    return fake


def name(peak, batch):
    return f"schedule.peak={peak},batch={batch}"


@pytest.mark.parametrize("only", [(), ("--print-commands",)])
def test_that_steps_do_not_follow_the_batch_is_said_once(sweep, monkeypatch, only):
    noted = []
    monkeypatch.setattr(command, "note", noted.append)
    sweep(MICRO, "batch=8,16,32", "seed=1,2", *only)
    assert [line.partition(";")[0] for line in noted] == [
        "batch is 8 instead of 16",
        "batch is 32 instead of 16",
    ]


def test_a_failed_run_does_not_stop_the_rest_and_is_tried_again_alone(sweep):
    sweep.broken.add(name("2e-3", 8))
    printed = sweep(MICRO, *GRID)
    # Those that compile something new go first.
    assert sweep.trained == [name(p, b) for p, b in (("1e-3", 8), ("1e-3", 16), ("2e-3", 8), ("2e-3", 16))]
    assert sweep.status == 1 and f"{name('2e-3', 8)}: failed: no luck\n" in printed
    assert "2e-3           16     0.992" in printed
    sweep.broken.clear()
    printed = sweep(MICRO, *GRID)
    assert sweep.trained == [name("2e-3", 8)] and sweep.status == 0
    assert "4 runs in" in printed and "3 of them finished before" in printed and "no luck" not in printed
    again = sweep(MICRO, *GRID)
    assert sweep.trained == [] and (sweep.folder / "table.txt").read_text() in again
    assert sweep("--table-only").strip() == (sweep.folder / "table.txt").read_text().strip()


def test_a_preview_counts_the_steps_to_compile_and_writes_nothing(sweep):
    printed = sweep(MICRO, "schedule.peak=1e-3,2e-3,3e-3", *GRID[1:], "--dry-run")
    assert f"{name('1e-3', 8)}\n  schedule.peak=1e-3 batch=8 steps=4\n" in printed
    assert "6 runs, 2 distinct steps to compile" in printed
    assert sweep.trained == [] and not sweep.folder.exists()


def test_another_sweep_in_the_same_folder_is_refused_by_its_differences(sweep):
    sweep(MICRO, *GRID)
    with pytest.raises(UserError, match=r"it lacks a run schedule.peak=3e-3 batch=8 steps=4") as caught:
        sweep(MICRO, "schedule.peak=1e-3,3e-3", *GRID[1:])
    assert "it has a run schedule.peak=2e-3 batch=8 steps=4, which is not asked for" in str(caught.value)
    with pytest.raises(UserError, match="its config is .*micro.py, not stage1_synthetic"):
        sweep("stage1_synthetic", *GRID)


def test_runs_that_cannot_start_are_named_before_any_run_starts(sweep):
    sweep.plan = sweep.plan | {"problem": "it needs 5 GiB"}
    with pytest.raises(UserError, match=r"4 of 4 runs cannot start .*batch=8: it needs 5 GiB"):
        sweep(MICRO, *GRID)
    assert sweep.trained == []
    sweep(MICRO, *GRID, "--force")
    assert len(sweep.trained) == 4


def test_bad_arguments_are_named(sweep, tmp_path):
    for arguments, words in (
        ((MICRO, *GRID, "--jobs", "0"), "must be at least 1"),
        ((MICRO, "steps=1,2", "no.such=1"), "the config has no 'no.such'"),
        ((), "a sweep needs a config"),
        (("--table-only",), "is it the folder of a sweep"),
        ((MICRO, *GRID, "--launch", "slurm"), "needs --target FILE"),
    ):
        with pytest.raises(UserError, match=words):
            sweep(*arguments)
    assert not sweep.folder.exists()


def test_commands_for_other_machines_leave_out_finished_runs(sweep):
    sweep(MICRO, *GRID)
    (sweep.folder / "runs" / name("2e-3", 16) / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    printed = sweep(MICRO, *GRID, "--print-commands")
    folder = sweep.folder / "runs" / name("2e-3", 16)
    train = f"train {MICRO} schedule.peak=2e-3 batch=16 steps=4 --workdir {folder}"
    assert printed == f"ivjax {train}\n"
    (launch,) = launch_commands(read_sweep_folder(sweep.folder), "slurm", "here.toml")
    out = sweep.folder / "jobs" / name("2e-3", 16)
    # Jobs of one config need names and files of their own.
    assert " ".join(launch) == f"launch slurm --target here.toml --set name=sweep-3 --out {out} {train}"


def test_an_error_in_a_run_becomes_a_reply_and_the_worker_lives_on(tmp_path):
    said = []
    request = {"do": "train", "config": MICRO, "root": str(tmp_path), "shared": (), "key": "k"}
    run = {"name": "r", "overrides": ["batch=7"], "folder": str(tmp_path / "r")}
    reply = answer(request | {"run": run}, said.append)
    assert reply["status"] == "failed" and "batch=7 does not divide" in reply["why"]
    reply = answer({"do": "train"}, said.append)
    assert reply["why"] == "KeyError: 'run'" and "Traceback" in said[-1]
