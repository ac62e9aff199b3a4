"""Damage to the folder of a run that was killed: it goes on with one sentence, and gives the same curve."""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.kills import Row
from tests.faults.started import LOGGED, Started, curve

Damage = Callable[[Path, random.Random], None]  # damages a run folder at a random place


def newest(run: Path) -> Path:
    """Returns the folder of the newest checkpoint."""
    steps = (entry for entry in (run / "checkpoints").iterdir() if entry.name.isdecimal())
    return max(steps, key=lambda entry: int(entry.name))


def _content(rng: random.Random) -> bytes:
    """What a file may hold that nobody wrote."""
    return rng.choice(
        (b"", b"\xff\xfe\x00\n\xff", b"[1, 2]", b'{"totals": "none"}', b'"words"', rng.randbytes(99))
    )


def _flip(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def _some_file(folder: Path, rng: random.Random) -> Path:
    """A file of a folder, larger ones more often."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.stat().st_size]
    return rng.choices(files, [file.stat().st_size for file in files])[0]


def _flip_a_bit(run: Path, rng: random.Random) -> None:
    _flip(_some_file(newest(run), rng), rng)


def _cut_a_file(run: Path, rng: random.Random) -> None:
    file = _some_file(newest(run), rng)
    os.truncate(file, rng.randrange(file.stat().st_size))


def _lose_a_file(run: Path, rng: random.Random) -> None:
    _some_file(newest(run), rng).unlink()


def _lose_an_item(run: Path, rng: random.Random) -> None:
    shutil.rmtree(newest(run) / rng.choice(("params", "moments", "counters", "data", "meta")))


def _change_a_description(run: Path, rng: random.Random) -> None:
    (newest(run) / rng.choice(("data", "meta")) / "metadata").write_bytes(_content(rng))


def _spoil(name: str) -> Damage:
    def damage(run: Path, rng: random.Random) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).write_bytes(_content(rng))

    return damage


def _folder_instead(name: str) -> Damage:
    def damage(run: Path, rng: random.Random) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return damage


def _file_instead(name: str) -> Damage:
    def damage(run: Path, rng: random.Random) -> None:
        # Compiled programs are elsewhere, if the user has a place for them.
        shutil.rmtree(run / name, ignore_errors=True)
        (run / name).write_bytes(_content(rng))

    return damage


DAMAGES: dict[str, Damage] = {
    "a bit of the newest checkpoint flipped": _flip_a_bit,
    "a file of it cut": _cut_a_file,
    "a file of it lost": _lose_a_file,
    "parameters, moments, counters, data or meta of it lost": _lose_an_item,
    "its data or meta of another kind": _change_a_description,
    "ledger.json of another kind": _spoil("ledger.json"),
    "ledger.json a folder": _folder_instead("ledger.json"),
    "owner.json of another kind": _spoil("owner.json"),
    "metrics.jsonl of another kind": _spoil("metrics.jsonl"),
    "metrics.jsonl a folder": _folder_instead("metrics.jsonl"),
    "experiment.json of another kind": _spoil("experiment.json"),
    "checkpoints a file": _file_instead("checkpoints"),
    "tensorboard a file": _file_instead("tensorboard"),
    "compiled a file": _file_instead("compiled"),
}


def damage_runs(work: Path, times: int, rng: random.Random) -> Iterator[Row]:
    """Does each damage so often to a run that was killed half-way; needs the corpus, and the whole run."""
    whole, half = curve(work / "whole"), _half(work)
    yield _second_run(work, half)
    for name, damage in DAMAGES.items():
        for _ in range(times):
            run = work / "damaged"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(half, run)
            damage(run, rng)
            Started(work / "damaged.log", "train", LOGGED, "--workdir", run.name, cwd=work).finish()
            found = curve(run)
            # What was logged before is lost with its file; all later values must be there.
            later = {key: values for key, values in whole.items() if key in found or "metrics" not in name}
            assert found == later and max(whole) in found, name
        yield Row(name, times, "it goes on, to the same curve")


def _half(work: Path) -> Path:
    """A run that was killed half-way; it has two checkpoints."""
    run = work / "half"
    if run.exists():
        return run
    started = Started(work / "half.log", "train", LOGGED, "--workdir", run.name, cwd=work)
    while not (run / "metrics.jsonl").exists() or len((run / "metrics.jsonl").read_text().splitlines()) < 25:
        time.sleep(0.005)
    started.kill()
    return run


def _second_run(work: Path, half: Path) -> Row:
    """A second run in a folder in which one trains is refused, and the first does not notice."""
    run = work / "shared"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(half, run)
    first = Started(work / "first.log", "train", LOGGED, "--workdir", run.name, cwd=work)
    while not (run / "owner.json").exists() or str(first.process.pid) not in (run / "owner.json").read_text():
        time.sleep(0.005)
    second = Started(work / "second.log", "train", LOGGED, "--workdir", run.name, cwd=work)
    assert second.process.wait(300) == 2 and "is in use by process" in second.shown, second.shown
    first.finish()
    assert curve(run) == curve(work / "whole")
    return Row("a second run in one folder", 1, "refused in one sentence; the first gives the same curve")
