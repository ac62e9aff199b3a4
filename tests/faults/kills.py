"""Kills at random moments: of a build, a run, a sweep, and processes of a job."""

import hashlib
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.faults.started import LOGGED, Started, curve, fed, phase

MICRO = str(Path(__file__).parents[1] / "train" / "micro.py")


class Row(NamedTuple):
    """A row of the table: what was done to what, how often, and what came of it."""

    what: str
    times: int
    outcome: str


def kill_build(work: Path, kills: int, rng: random.Random) -> Row:
    """A build that is killed again and again makes the bytes of one that is not; leaves the corpus shards."""
    Started(work / "demo.log", "data", "demo", "demo", "--clips", "64", "--held-out", "8", cwd=work).finish()
    words = ("data", "build", "demo/annotations.jsonl", "{}", "--videos", "demo/videos", "shard_clips=8")

    def build(out: str, log: str) -> Started:
        return Started(work / log, *(word.format(out) for word in words), cwd=work)

    began = time.monotonic()
    build("shards", "build.log").finish()
    whole, lasts = _digests(work / "shards"), time.monotonic() - began
    done = 0
    while done < kills:
        started = build("killed", f"build.{done}.log")
        if started.wait(rng.uniform(0.5, lasts)):
            started.kill()
            done += 1
        else:
            started.finish()
            assert _digests(work / "killed") == whole
            shutil.rmtree(work / "killed")
    build("killed", "build.last.log").finish()
    assert _digests(work / "killed") == whole
    return Row("a build, killed", kills, f"the same {len(whole)} files, byte for byte")


def kill_training(work: Path, kills: int, rng: random.Random) -> Row:
    """A run that is killed again and again logs and feeds what one does that is not; needs the corpus."""
    words = ("train", LOGGED, "--workdir")
    Started(work / "whole.log", *words, "whole", cwd=work, FED="whole.fed").finish()
    whole, given = curve(work / "whole"), fed(work / "whole.fed")
    phases: Counter[str] = Counter()
    run, starts = 0, 0
    while sum(phases.values()) < kills:
        folder, log = work / f"killed {run}", f"killed {run}.fed"
        started = Started(work / f"train.{starts}.log", *words, folder.name, cwd=work, FED=log)
        starts += 1
        _wait_for_moment(started, folder, rng)
        if started.lives:
            phases[phase(folder, started.shown)] += 1
            started.kill()
        if not started.lives and started.process.returncode == 0:
            _same(folder, whole, fed(work / log), given)
            run += 1
        assert "Traceback" not in started.shown, started.shown
    Started(work / "train.last.log", *words, folder.name, cwd=work, FED=log).finish()
    _same(folder, whole, fed(work / log), given)
    where = ", ".join(f"{count} at {name}" for name, count in phases.most_common())
    return Row("a run, killed", kills, f"{run + 1} identical curves, no clip lost or repeated ({where})")


def kill_sweep(work: Path, kills: int, rng: random.Random) -> Row:
    """A sweep that is killed again and again gives the table of one that is not; needs the corpus."""
    words = ("sweep", LOGGED, "steps=12", "schedule.peak=1e-3,2e-3", "--workdir")
    began = time.monotonic()
    Started(work / "sweep.log", *words, "sweep", cwd=work).finish()
    lasts, done = time.monotonic() - began, 0
    while done < kills:
        started = Started(work / f"sweep.{done}.log", *words, "killed sweep", cwd=work)
        if not started.wait(rng.uniform(1, lasts)):
            started.finish()
            shutil.rmtree(work / "killed sweep")
            continue
        started.kill()
        done += 1
    Started(work / "sweep.last.log", *words, "killed sweep", cwd=work).finish()
    for run in (work / "sweep" / "runs").iterdir():
        assert curve(work / "killed sweep" / "runs" / run.name) == curve(run)
    return Row("a sweep of two runs, killed", kills, "identical curves")


def kill_hosts(work: Path, processes: int, kills: int, rng: random.Random) -> Row:
    """Processes of a job die one at a time: the others end, and the job starts again by itself."""
    steps = ("steps=80", "checkpoint.every=5", "mesh.data=4")
    words = ("launch", "local", "--processes", str(processes), "--devices", str(4 // processes), "--restarts")
    runs, done, slowest = 0, 0, 0.0
    whole = _whole_job(work, processes, steps)
    while done < kills:
        folder = work / f"hosts {processes} {runs}"
        started = Started(
            work / f"{folder.name}.log",
            *words,
            str(kills),
            "train",
            MICRO,
            *steps,
            "--workdir",
            str(folder),
            cwd=work,
        )
        while done < kills and started.lives:
            if _wait_for_moment(started, folder, rng) and len(job := started.children()) == processes:
                os.kill(rng.choice(job), signal.SIGKILL)
                slowest = max(slowest, _gone(started, job))
                done += 1
        started.finish()
        assert curve(folder) == whole
        runs += 1
    outcome = f"{runs} identical curves; the others ended within {slowest:.0f} s, the job went on by itself"
    return Row(f"one of {processes} processes, killed", kills, outcome)


def _whole_job(work: Path, processes: int, steps: tuple[str, ...]) -> dict[tuple[int, str], dict[str, float]]:
    """The curve of the job that nothing disturbs, in as many processes, which add up in one order."""
    split = ("--processes", str(processes), "--devices", str(4 // processes))
    folder = work / f"hosts {processes} whole"
    words = ("launch", "local", *split, "train", MICRO, *steps, "--workdir", str(folder))
    Started(work / f"{folder.name}.log", *words, cwd=work).finish()
    return curve(folder)


def _wait_for_moment(started: Started, run: Path, rng: random.Random) -> bool:
    """Waits for a random moment: of the start, or of the steps after it. Returns whether it still lives."""
    if rng.random() < 0.4:
        return started.wait(rng.uniform(0, 6))
    logged = run / "metrics.jsonl"
    before = logged.stat().st_size if logged.exists() else 0
    while started.lives and (not logged.exists() or logged.stat().st_size <= before):
        time.sleep(0.005)
    return started.wait(rng.expovariate(3))


def _gone(started: Started, job: list[int]) -> float:
    """Waits until a job's processes have ended; returns the seconds."""
    began = time.monotonic()
    while started.lives and set(started.children()) & set(job):
        time.sleep(0.02)
    return time.monotonic() - began


def _same(folder: Path, whole: object, seen: dict[int, str], given: dict[int, str]) -> None:
    assert curve(folder) == whole
    assert seen == given


def _digests(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
